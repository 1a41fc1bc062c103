//! Which records of a trace are wanted. What is left out is counted, like what the live filters
//! hold back.

use jiff::tz::TimeZone;

use crate::cli::{Pattern, Select};
use crate::model::summary::{FILTERED_MAJORS, NOT_SELECTED, NOT_SELECTED_MAJORS};
use crate::model::{Facts, LossClass, Lost, Measure, Name, Record, Site};
use crate::trace::{Item, Meta, State, Trace};
use crate::view::escape::Escaped;

/// Reason of the `lost` record for faults that made room under `--max-size`.
const DROPPED: &str = "dropped_max_size";
/// The same for reports of stuck threads.
const DROPPED_STUCK: &str = "dropped_stuck";

/// The filter of one trace.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    select: &'a Select,
    /// When tracing began, Unix time ns.
    start_ns: u64,
    since_ns: u64,
    until_ns: u64,
    min_ns: u64,
    faults: u64,
    majors: u64,
    /// The site judged last, and the verdict: neighbours are often of one site.
    last: Option<(u64, bool)>,
    /// Nothing restricts it.
    takes_all: bool,
}

impl<'a> Filter<'a> {
    /// For a trace. Fails if what is wanted is a time that never was, or of which the trace knows nothing.
    pub(super) fn new(select: &'a Select, trace: &Trace) -> anyhow::Result<Self> {
        let zone = TimeZone::system();
        let start_ns = trace.meta().start.time_ns;
        let moment = |when: Option<crate::cli::When>, else_ns: u64| match when {
            None => Ok(else_ns),
            Some(when) => when
                .unix_ns(start_ns, &zone)
                .ok_or_else(|| anyhow::anyhow!("--since or --until is a time that does not exist")),
        };
        let min = select.min_duration.unwrap_or_default();
        let filter = Self {
            select,
            start_ns,
            since_ns: moment(select.since, 0)?,
            until_ns: moment(select.until, u64::MAX)?,
            min_ns: u64::try_from(min.as_nanos()).unwrap_or(u64::MAX),
            faults: 0,
            majors: 0,
            last: None,
            takes_all: *select == Select::default(),
        };
        if filter.since_ns > filter.until_ns {
            anyhow::bail!("--since is after --until");
        }
        filter.refuse_outside(trace)?;
        Ok(filter)
    }

    /// A time outside the trace had no faults that anybody knows of, which is not the same as none.
    fn refuse_outside(&self, trace: &Trace) -> anyhow::Result<()> {
        let meta = trace.meta();
        let what = if self.since_ns >= meta.written_ns && self.since_ns > 0 {
            "--since is not before the end"
        } else if self.until_ns <= self.start_ns {
            "--until is not after the beginning"
        } else {
            return Ok(());
        };
        let so_far = match meta.state {
            State::Recording => " so far",
            State::Complete | State::Stopped(_) => "",
        };
        anyhow::bail!(
            "{what} of {}, which goes from {} to {}{so_far}",
            Escaped::path(trace.path()),
            local_time(self.start_ns),
            local_time(meta.written_ns)
        );
    }

    /// From when to when, Unix time ns, as far as it was asked for.
    pub(super) fn span(&self) -> (Option<u64>, Option<u64>) {
        let since = (self.since_ns > 0).then_some(self.since_ns);
        let until = (self.until_ns < u64::MAX).then_some(self.until_ns);
        (since, until)
    }

    /// Whether a record is wanted.
    pub(super) fn takes(&mut self, item: &Item<'_>) -> bool {
        if self.takes_all {
            return true;
        }
        match item {
            Item::Fault {
                site_id,
                site,
                measure,
            } => {
                let wanted = self.takes_measure(measure) && self.takes_site_id(*site_id, site);
                if !wanted {
                    self.faults += 1;
                    // Of others there is no `maj_flt` to compare with.
                    self.majors += u64::from(site.major && self.takes_pid(site.facts.pid));
                }
                wanted
            }
            Item::Other(record) => self.takes_other(record),
        }
    }

    /// Whether a record is a sample that was taken after the time that is wanted: the first of them tells
    /// what made a stall at the end of that.
    pub(super) fn is_sample_beyond(&self, item: &Item<'_>) -> bool {
        match item {
            Item::Other(Record::Sample(sample)) => {
                sample.time_ns > self.until_ns && self.takes_pid(sample.pid)
            }
            _ => false,
        }
    }

    fn takes_measure(&self, measure: &Measure) -> bool {
        measure.duration_ns >= self.min_ns
            && measure.end_ns >= self.since_ns
            && measure.begin_ns() <= self.until_ns
    }

    fn takes_site_id(&mut self, site_id: u64, site: &Site) -> bool {
        match self.last {
            Some((id, verdict)) if id == site_id => verdict,
            _ => {
                let verdict = self.takes_site(site);
                self.last = Some((site_id, verdict));
                verdict
            }
        }
    }

    /// Whether faults of a site can be wanted.
    pub(super) fn takes_site(&self, site: &Site) -> bool {
        (site.major || !self.select.major_only) && self.takes_facts(&site.facts)
    }

    fn takes_facts(&self, facts: &Facts) -> bool {
        let threads = &self.select.threads;
        let of_thread = |pattern: &Pattern| {
            pattern.text() == facts.tid.to_string().as_bytes()
                || pattern.matches(facts.thread.as_bytes())
        };
        self.takes_pid(facts.pid)
            && (threads.is_empty() || threads.iter().any(of_thread))
            && self.takes_path(facts.place.path.as_ref())
    }

    fn takes_path(&self, path: Option<&Name>) -> bool {
        let on_file =
            |pattern: &Pattern| path.is_some_and(|path| pattern.matches_path(path.as_bytes()));
        self.select.files.is_empty() || self.select.files.iter().any(on_file)
    }

    fn takes_pid(&self, pid: u32) -> bool {
        self.select.pids.is_empty() || self.select.pids.contains(&pid)
    }

    fn takes_other(&self, record: &Record) -> bool {
        match record {
            Record::Stuck(stuck) => {
                // What began before is timed from the start. Who is stuck for longer than until `since`
                // is reported again, or their fault is told.
                let begin = stuck.facts.begin_ns.unwrap_or(self.start_ns);
                let seen = begin.saturating_add(stuck.elapsed_ns);
                stuck.elapsed_ns >= self.min_ns
                    && seen >= self.since_ns
                    && begin <= self.until_ns
                    && self.takes_facts(&stuck.facts)
            }
            Record::Process(process) => self.takes_pid(process.pid),
            Record::ProcessEnd(end) => self.takes_pid(end.pid),
            Record::Sample(sample) => {
                let span = self.since_ns..=self.until_ns;
                self.takes_pid(sample.pid) && span.contains(&sample.time_ns)
            }
            Record::CacheFill(fill) => {
                fill.end_ns >= self.since_ns && fill.begin_ns <= self.until_ns
            }
            Record::ReadAhead(ahead) => {
                ahead.end_ns >= self.since_ns
                    && ahead.begin_ns <= self.until_ns
                    && self.takes_path(ahead.path.as_ref())
            }
            // What it was before is still true.
            Record::Go(go) => self.takes_pid(go.pid) && go.time_ns <= self.until_ns,
            Record::Accounting(account) => self.takes_pid(account.pid),
            Record::Start(_)
            | Record::Fault(_)
            | Record::Lost(_)
            | Record::Transport(_)
            | Record::Stall(_)
            | Record::PStall(_) => true,
        }
    }

    /// What was left out, by this filter and by the writer, to be told like any other loss.
    pub(super) fn losses(&self, meta: &Meta) -> Vec<Record> {
        [
            (DROPPED, meta.dropped_faults),
            (DROPPED_STUCK, meta.dropped_stuck),
            (FILTERED_MAJORS, meta.dropped_majors),
            (NOT_SELECTED, self.faults),
            (NOT_SELECTED_MAJORS, self.majors),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| {
            Record::Lost(Lost {
                class: LossClass::Filtered,
                reason: reason.into(),
                count,
            })
        })
        .collect()
    }

    /// The restrictions in words; `None` without any.
    pub(super) fn description(&self) -> Option<String> {
        let Select {
            pids,
            threads,
            files,
            since,
            until,
            min_duration,
            major_only,
        } = self.select;
        let list = |patterns: &[Pattern]| {
            let texts = patterns.iter().map(|one| Escaped(one.text()).to_string());
            texts.collect::<Vec<_>>().join(" or ")
        };
        let mut words = Vec::new();
        if !pids.is_empty() {
            let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
            words.push(format!("process {}", pids.join(" or ")));
        }
        if !threads.is_empty() {
            words.push(format!("thread {}", list(threads)));
        }
        if !files.is_empty() {
            words.push(format!("file {}", list(files)));
        }
        if since.is_some() {
            words.push(format!("since {}", local_time(self.since_ns)));
        }
        if until.is_some() {
            words.push(format!("until {}", local_time(self.until_ns)));
        }
        if let Some(min) = min_duration {
            words.push(format!("lasting {min:?} or more"));
        }
        if *major_only {
            words.push("major".to_owned());
        }
        (!words.is_empty()).then(|| format!("only faults: {}", words.join(", ")))
    }
}

/// A Unix time, ns, where the user is.
fn local_time(ns: u64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(ns)) {
        Ok(at) => {
            let at = TimeZone::system().to_datetime(at);
            at.strftime("%Y-%m-%d %H:%M:%S%.f").to_string()
        }
        Err(_) => format!("{ns} ns"),
    }
}

#[cfg(test)]
mod tests;
