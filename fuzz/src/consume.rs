//! Everything that can be done with a trace that may be anything. Nothing may panic, hang, or take
//! memory without bound; errors are what hostile files are for.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use faulttrace::export::{self, Kind};
use faulttrace::model::Record;
use faulttrace::model::analysis::{Analysis, Options, Wall};
use faulttrace::model::summary::Summary;
use faulttrace::trace::{Item, Order, Trace};
use faulttrace::view::{Json, Text, TextOptions, View, report};

/// Opens a trace and does everything with it. Says how many records came out.
pub fn consume(path: &Path) -> usize {
    let Ok(trace) = Trace::open(path) else {
        return 0;
    };
    let _ = trace.faults_at_most();
    let records = forwards(&trace);
    backwards(&trace);
    records
}

/// Replay and exports.
fn forwards(trace: &Trace) -> usize {
    let mut shown = Shown::default();
    shown.take(&Record::Start(trace.start().clone()));
    let _ = trace.records(Order::OldestFirst, |item| {
        shown.take(&item.into_record());
        ControlFlow::Continue(())
    });
    shown.finish()
}

/// All that shows a stream of records as it comes.
pub struct Shown {
    summary: Summary,
    json: Json,
    text: Text,
    exports: Vec<Box<dyn export::Export>>,
    out: Vec<u8>,
    count: usize,
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            summary: Summary::new(),
            json: Json::new(),
            text: Text::new(TextOptions {
                color: true,
                width: Some(80),
                kernel_stacks: true,
                multi_process: true,
            }),
            exports: Kind::ALL.map(export::start).into(),
            out: Vec::new(),
            count: 0,
        }
    }
}

impl Shown {
    /// Shows one record everywhere.
    pub fn take(&mut self, record: &Record) {
        self.count += 1;
        self.summary.add(record);
        self.json.record(record, Instant::now(), &mut self.out);
        self.check_json();
        self.text.record(record, Instant::now(), &mut self.out);
        self.check_text();
        for export in &mut self.exports {
            let _ = export.record(record, &mut io::sink());
        }
    }

    /// Ends the stream. Says how many records there were.
    pub fn finish(mut self) -> usize {
        self.json.finish(&self.summary, &mut self.out);
        self.check_json();
        self.text.finish(&self.summary, &mut self.out);
        self.check_text();
        for export in &mut self.exports {
            let _ = export.finish(&self.summary, &mut io::sink());
        }
        self.count
    }

    fn check_text(&mut self) {
        check_lines(&self.out);
        self.out.clear();
    }

    /// Every line is JSON, and harmless to a terminal too.
    fn check_json(&mut self) {
        for line in self
            .out
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let parsed = serde_json::from_slice::<serde_json::Value>(line);
            assert!(parsed.is_ok(), "no JSON: {}", line.escape_ascii());
        }
        self.check_text();
    }
}

/// The report, as text and as JSON.
fn backwards(trace: &Trace) {
    let meta = trace.meta();
    let mut analysis = Analysis::new(Options {
        wall: Some(Wall {
            begin_ns: meta.start.time_ns,
            end_ns: meta.written_ns,
        }),
        ..Options::default()
    });
    let _ = trace.sites(|_, site| analysis.expect_site(site));
    let _ = trace.records_for_totals(Order::NewestFirst, |item| {
        match item {
            Item::Fault {
                site_id,
                site,
                measure,
            } => analysis.fault(site_id, site, &measure),
            Item::Other(record) => analysis.other(&record),
        }
        ControlFlow::Continue(())
    });
    analysis.other(&Record::Start(meta.start.clone()));
    let found = analysis.finish();
    let mut out = Vec::new();
    let _ = report::write_json(&found, &mut out);
    report::write_text(&found, TextOptions::default(), &mut out);
    check_lines(&out);
}

/// What is shown can steer no terminal: the only escapes are the colours that are ours.
fn check_lines(out: &[u8]) {
    let mut rest = out;
    while let Some(at) = rest.iter().position(|byte| *byte < 0x20 && *byte != b'\n') {
        let (_, from) = rest.split_at(at);
        let colour = [&b"\x1b[1m"[..], b"\x1b[1;31m", b"\x1b[2m", b"\x1b[0m"];
        let ours = colour.iter().find(|ours| from.starts_with(ours));
        let Some(ours) = ours else {
            panic!(
                "a control character reached the output: {:?}",
                &from[..from.len().min(20)]
            );
        };
        rest = &from[ours.len()..];
    }
}
