//! Keeps a trace to its size: the oldest records make room for new ones, and are counted.

use rusqlite::{Connection, params};

use super::dictionary::Dictionary;

/// Room that is kept free for the next batch, in percent of the size.
const RESERVE_PERCENT: u64 = 10;
/// And at least so much for each of its records: rows of a fault, of its sleep and of its page's past,
/// with what is new in them.
const RECORD_BYTES: u64 = 256;
/// At least so many of the oldest faults go at once.
const MIN_DROPPED: usize = 1024;

/// The bound of one trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    max_bytes: u64,
    dropped_faults: u64,
    dropped_majors: u64,
    dropped_stuck: u64,
}

/// What is left out of processes and losses when the faults of their time are gone: processes that
/// have ended; losses are added up, so that none is forgotten.
const FORGET_BEFORE: [&str; 13] = [
    "DELETE FROM sleeps WHERE fault <= ?1",
    "DELETE FROM fault_io WHERE fault <= ?1",
    "DELETE FROM fault_goroutines WHERE record <= ?1",
    "DELETE FROM go_processes WHERE id <= ?1 AND EXISTS (SELECT 1 FROM go_processes l
       WHERE l.pid = go_processes.pid AND l.id > go_processes.id AND l.id <= ?1
       UNION SELECT 1 FROM process_ends e
       WHERE e.pid = go_processes.pid AND e.id > go_processes.id AND e.id <= ?1)",
    "DELETE FROM samples WHERE id <= ?1",
    "DELETE FROM histories WHERE fault <= ?1",
    "DELETE FROM cache_fill_by WHERE fill <= ?1",
    "DELETE FROM cache_fills WHERE id <= ?1",
    "DELETE FROM read_aheads WHERE id <= ?1",
    "DELETE FROM processes WHERE id <= ?1 AND EXISTS (SELECT 1 FROM process_ends e
       WHERE e.pid = processes.pid AND e.id > processes.id AND e.id <= ?1)",
    "DELETE FROM process_ends WHERE id <= ?1",
    "UPDATE losses SET count = (SELECT sum(l.count) FROM losses l
         WHERE l.class = losses.class AND l.reason = losses.reason AND l.id <= ?1)
       WHERE id IN (SELECT max(id) FROM losses WHERE id <= ?1 GROUP BY class, reason)",
    "DELETE FROM losses WHERE id <= ?1
       AND id NOT IN (SELECT max(id) FROM losses WHERE id <= ?1 GROUP BY class, reason)",
];

/// What nothing refers to any more.
const UNUSED: &str = "
    DELETE FROM sites WHERE id NOT IN (SELECT site FROM faults UNION SELECT site FROM stuck);
    DELETE FROM threads WHERE id NOT IN (SELECT thread FROM sites
      UNION SELECT waker FROM faults WHERE waker IS NOT NULL
      UNION SELECT remover FROM histories WHERE remover IS NOT NULL
      UNION SELECT filler FROM histories WHERE filler IS NOT NULL
      UNION SELECT process FROM cache_fill_by);
    DELETE FROM goroutines WHERE id NOT IN (SELECT goroutine FROM fault_goroutines);
    DELETE FROM goroutine_labels WHERE goroutine NOT IN (SELECT id FROM goroutines);
    DELETE FROM devices WHERE id NOT IN (SELECT device FROM fault_io WHERE device IS NOT NULL);
    DELETE FROM files WHERE id NOT IN (SELECT file FROM sites WHERE file IS NOT NULL);
    DELETE FROM stacks WHERE id NOT IN (SELECT user_stack FROM sites WHERE user_stack IS NOT NULL
      UNION SELECT kernel_stack FROM sites WHERE kernel_stack IS NOT NULL);
    DELETE FROM stack_frames WHERE stack NOT IN (SELECT id FROM stacks);
    DELETE FROM frames WHERE id NOT IN (SELECT frame FROM stack_frames);
    DELETE FROM modules WHERE id NOT IN (SELECT module FROM frames WHERE module IS NOT NULL);";

impl Limit {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            dropped_faults: 0,
            dropped_majors: 0,
            dropped_stuck: 0,
        }
    }

    /// The bound, bytes.
    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Faults that made room.
    pub(super) fn dropped_faults(&self) -> u64 {
        self.dropped_faults
    }

    /// Makes room inside the open transaction if there is little, after `added` records were
    /// written. Twice as many go as came, so that each batch pays for itself alone.
    pub(super) fn keep(
        &mut self,
        db: &Connection,
        added: usize,
        dictionary: &mut Dictionary,
    ) -> rusqlite::Result<()> {
        if !self.is_tight(db, added)? {
            return Ok(());
        }
        self.drop_oldest(db, added)?;
        if self.is_tight(db, added)? {
            // It is not the faults that take the room.
            self.make_room(db, added, dictionary)?;
        }
        Ok(())
    }

    /// Makes as much room as a batch can need. `false` if there is none to be made.
    pub(super) fn make_room(
        &mut self,
        db: &Connection,
        added: usize,
        dictionary: &mut Dictionary,
    ) -> rusqlite::Result<bool> {
        loop {
            // Of what has been dropped already, perhaps.
            db.execute_batch(UNUSED)?;
            dictionary.forget();
            if !self.is_tight(db, added)? {
                return Ok(true);
            }
            if self.drop_oldest(db, added)? == 0 {
                return Ok(false);
            }
        }
    }

    /// Whether there is little room left for as many records once more.
    pub(super) fn is_tight(&self, db: &Connection, records: usize) -> rusqlite::Result<bool> {
        let number = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
        let free = number("freelist_count")?;
        let used = number("page_count")?.saturating_sub(free);
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        let batch = records.saturating_mul(RECORD_BYTES);
        // Not more than half: what is kept is to be of use.
        let reserve = batch.clamp(self.max_bytes / 100 * RESERVE_PERCENT, self.max_bytes / 2);
        let room = self.max_bytes.saturating_sub(reserve);
        Ok(used.saturating_mul(number("page_size")?) > room)
    }

    /// Drops the oldest faults, twice as many as `added` but not the later half of what there is, and
    /// what else is of their time.
    fn drop_oldest(&mut self, db: &Connection, added: usize) -> rusqlite::Result<u64> {
        let wanted = i64::try_from(added.max(MIN_DROPPED)).unwrap_or(i64::MAX);
        // Numbers of faults have gaps, so that this half may be some more or less.
        let last: Option<i64> = db.query_row(
            "SELECT min(max(id), ((SELECT min(id) FROM faults) + (SELECT max(id) FROM faults)) / 2)
             FROM (SELECT id FROM faults ORDER BY id LIMIT ?)",
            [wanted.saturating_mul(2)],
            |row| row.get(0),
        )?;
        let Some(last) = last else { return Ok(0) };
        let (faults, majors): (u64, u64) = db.query_row(
            "SELECT count(*), coalesce(sum(major), 0) FROM faults JOIN sites ON sites.id = site
             WHERE faults.id <= ?",
            [last],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        db.execute("DELETE FROM faults WHERE id <= ?", [last])?;
        let stuck = db.execute("DELETE FROM stuck WHERE id <= ?", [last])?;
        for sql in FORGET_BEFORE {
            db.execute(sql, [last])?;
        }
        self.dropped_faults += faults;
        self.dropped_majors += majors;
        self.dropped_stuck += u64::try_from(stuck).unwrap_or(0);
        for (key, value) in [
            ("dropped_faults", self.dropped_faults),
            ("dropped_majors", self.dropped_majors),
            ("dropped_stuck", self.dropped_stuck),
        ] {
            db.execute(
                "UPDATE meta SET value = ? WHERE key = ?",
                params![value.cast_signed(), key],
            )?;
        }
        Ok(faults)
    }
}
