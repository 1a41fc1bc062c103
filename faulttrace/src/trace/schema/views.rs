//! Views: what people ask for in one line.

/// A view of the database.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Its name.
    pub name: &'static str,
    /// What a row is.
    pub meaning: &'static str,
    /// The query behind it.
    pub select: &'static str,
}

impl View {
    /// The statement that creates it.
    pub fn sql(&self) -> String {
        format!("CREATE VIEW {} AS\n{}", self.name, self.select)
    }
}

/// All views.
pub const VIEWS: &[View] = &[
    View {
        name: "fault_details",
        meaning: "A fault with everything that is known of it. `begin` is its time in UTC; \
                  `time_ns` and `begin` are NULL if it began before faulttrace attached.",
        select: "\
SELECT f.id AS id,
       CASE WHEN s.began_before_attach THEN NULL ELSE b.ns + f.end_rel_ns - f.duration_ns END AS time_ns,
       CASE WHEN s.began_before_attach THEN NULL ELSE
         strftime('%Y-%m-%d %H:%M:%S', (b.ns + f.end_rel_ns - f.duration_ns) / 1000000000, 'unixepoch')
         || printf('.%06d', (b.ns + f.end_rel_ns - f.duration_ns) % 1000000000 / 1000) END AS begin,
       b.ns + f.end_rel_ns AS end_ns,
       t.pid AS pid, t.tid AS tid, t.name AS thread,
       s.major AS major, s.cause AS cause,
       p.path AS path,
       CASE WHEN s.at IN ('both', 'offset') THEN f.at - f.at % g.bytes END AS offset,
       CASE s.at WHEN 'both' THEN printf('%#x', s.base + f.at)
                 WHEN 'address' THEN printf('%#x', f.at) END AS address,
       s.mapping AS mapping,
       f.duration_ns AS duration_ns, f.blocked_ns AS blocked_ns, f.runqueue_ns AS runqueue_ns,
       f.duration_ns - f.blocked_ns - f.runqueue_ns AS on_cpu_ns,
       f.switches AS switches,
       s.mode AS mode, s.syscall AS syscall, s.access AS access, s.ended AS \"end\",
       s.began_before_attach AS began_before_attach,
       s.begin_approximate AS begin_approximate,
       f.slept_after_ns AS slept_after_ns,
       CASE f.waker WHEN 0 THEN 'interrupt' ELSE w.name END AS waker,
       w.pid AS waker_pid, w.tid AS waker_tid, f.waker_syscall AS waker_syscall,
       s.user_stack AS user_stack, s.kernel_stack AS kernel_stack,
       r.goroutine AS goroutine, r.start AS goroutine_start, x.p AS p
FROM faults f
JOIN sites s ON s.id = f.site
JOIN threads t ON t.id = s.thread
JOIN (SELECT value AS ns FROM meta WHERE key = 'base_ns') b
JOIN (SELECT value AS bytes FROM meta WHERE key = 'page_bytes') g
LEFT JOIN files p ON p.id = s.file
LEFT JOIN threads w ON w.id = f.waker
LEFT JOIN fault_goroutines x ON x.record = f.id
LEFT JOIN goroutines r ON r.id = x.goroutine",
    },
    View {
        name: "site_totals",
        meaning: "A site with its faults counted and added up; the other totals are made of it.",
        select: "\
SELECT site, count(*) AS faults, sum(duration_ns) AS duration_ns, sum(blocked_ns) AS blocked_ns,
       sum(runqueue_ns) AS runqueue_ns, max(duration_ns) AS max_ns
FROM faults GROUP BY site",
    },
    View {
        name: "thread_totals",
        meaning: "A thread with its faults; under its names together.",
        select: "\
SELECT t.pid AS pid, t.tid AS tid, max(t.name) AS thread, sum(n.faults) AS faults,
       sum(n.faults * s.major) AS majors, sum(n.duration_ns) AS duration_ns,
       sum(n.blocked_ns) AS blocked_ns, max(n.max_ns) AS max_ns
FROM site_totals n JOIN sites s ON s.id = n.site JOIN threads t ON t.id = s.thread
GROUP BY t.pid, t.tid ORDER BY blocked_ns DESC",
    },
    View {
        name: "file_totals",
        meaning: "A file or kind of memory with its faults.",
        select: "\
SELECT p.path AS path, s.mapping AS mapping, sum(n.faults) AS faults,
       sum(n.faults * s.major) AS majors, sum(n.duration_ns) AS duration_ns,
       sum(n.blocked_ns) AS blocked_ns, max(n.max_ns) AS max_ns
FROM site_totals n JOIN sites s ON s.id = n.site LEFT JOIN files p ON p.id = s.file
GROUP BY p.path, s.mapping ORDER BY blocked_ns DESC",
    },
    View {
        name: "cause_totals",
        meaning: "A cause with its faults; NULL for those that did not sleep.",
        select: "\
SELECT s.cause AS cause, sum(n.faults) AS faults, sum(n.faults * s.major) AS majors,
       sum(n.duration_ns) AS duration_ns, sum(n.blocked_ns) AS blocked_ns, max(n.max_ns) AS max_ns
FROM site_totals n JOIN sites s ON s.id = n.site
GROUP BY s.cause ORDER BY blocked_ns DESC",
    },
    View {
        name: "stack_totals",
        meaning: "A user stack with its faults; `stack_lines` has its frames.",
        select: "\
SELECT t.pid AS pid, s.user_stack AS stack,
       (SELECT coalesce(f.function, printf('%#x', f.address))
        FROM stack_frames x JOIN frames f ON f.id = x.frame
        WHERE x.stack = s.user_stack ORDER BY x.position LIMIT 1) AS innermost,
       sum(n.faults) AS faults, sum(n.faults * s.major) AS majors,
       sum(n.duration_ns) AS duration_ns, sum(n.blocked_ns) AS blocked_ns, max(n.max_ns) AS max_ns
FROM site_totals n JOIN sites s ON s.id = n.site JOIN threads t ON t.id = s.thread
GROUP BY t.pid, s.user_stack ORDER BY blocked_ns DESC",
    },
    View {
        name: "stack_lines",
        meaning: "A frame of a stack, readable; `position` 0 is the innermost.",
        select: "\
SELECT x.stack AS stack, x.position AS position,
       coalesce(f.function, m.path || printf('+%#x', f.module_offset),
                printf('%#x', f.address)) AS function,
       m.path AS module, f.module_offset AS module_offset, hex(m.build_id) AS build_id,
       f.file AS file, f.line AS line, f.inlined AS inlined
FROM stack_frames x JOIN frames f ON f.id = x.frame LEFT JOIN modules m ON m.id = f.module
ORDER BY x.stack, x.position",
    },
    View {
        name: "stack_text",
        meaning: "A stack on one line, innermost function first.",
        select: "\
SELECT stack, group_concat(function, ' < ') AS functions
FROM (SELECT stack, function FROM stack_lines ORDER BY stack, position) GROUP BY stack",
    },
    View {
        name: "goroutine_totals",
        meaning: "A goroutine of a Go program with its faults; NULL for the runtime itself. \
                  `p_held_ns` is the duration of those that blocked its thread with a P, so that \
                  no other could run goroutines with it.",
        select: "\
SELECT r.pid AS pid, r.goroutine AS goroutine, max(r.start) AS start,
       max(r.created_by) AS created_by, count(*) AS faults, sum(s.major) AS majors,
       sum(f.duration_ns) AS duration_ns, sum(f.blocked_ns) AS blocked_ns,
       sum(CASE WHEN x.p IS NULL OR f.blocked_ns = 0 THEN 0 ELSE f.duration_ns END) AS p_held_ns,
       max(f.duration_ns) AS max_ns
FROM fault_goroutines x JOIN goroutines r ON r.id = x.goroutine
JOIN faults f ON f.id = x.record JOIN sites s ON s.id = f.site
GROUP BY r.pid, r.goroutine ORDER BY blocked_ns DESC",
    },
    View {
        name: "loss_totals",
        meaning: "What was not recorded or not in full, added up.",
        select: "\
SELECT class, reason, sum(count) AS count FROM losses GROUP BY class, reason",
    },
];
