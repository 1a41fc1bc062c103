//! What faults had read of files ahead.

use serde::Serialize;

use super::TOP;
use super::scalar::escaped;
use crate::model::summary::ReadAheads;
use crate::model::{AheadPages, ReadAhead};
use crate::view::escape::Escaped;

#[derive(Serialize)]
#[serde(tag = "type", rename = "read_ahead")]
pub(super) struct ReadAheadLine<'a> {
    begin_ns: u64,
    end_ns: u64,
    #[serde(flatten)]
    row: ReadAheadPart<'a>,
}

impl<'a> ReadAheadLine<'a> {
    pub(super) fn new(ahead: &'a ReadAhead) -> Self {
        ReadAheadLine {
            begin_ns: ahead.begin_ns,
            end_ns: ahead.end_ns,
            row: ReadAheadPart {
                path: escaped(ahead.path.as_ref()),
                pages: ahead.pages.into(),
            },
        }
    }
}

#[derive(Serialize)]
struct ReadAheadPart<'a> {
    path: Option<Escaped<'a>>,
    #[serde(flatten)]
    pages: PagesPart,
}

/// Counts of pages.
#[derive(Serialize)]
pub(in crate::view) struct PagesPart {
    read_pages: u64,
    mapped_pages: u64,
    dropped_pages: u64,
    unknown_pages: u64,
}

impl From<AheadPages> for PagesPart {
    fn from(pages: AheadPages) -> Self {
        PagesPart {
            read_pages: pages.read,
            mapped_pages: pages.mapped,
            dropped_pages: pages.dropped,
            unknown_pages: pages.unknown,
        }
    }
}

/// What was read ahead, in all.
#[derive(Serialize)]
pub(in crate::view) struct ReadAheadsPart<'a> {
    files: Vec<ReadAheadPart<'a>>,
    others: PagesPart,
}

impl<'a> ReadAheadsPart<'a> {
    /// `None` if nothing was told.
    pub(in crate::view) fn of(all: &'a ReadAheads) -> Option<Self> {
        let (files, others) = all.top(TOP);
        let part = |(path, pages): (Option<&'a crate::model::Name>, &AheadPages)| ReadAheadPart {
            path: escaped(path),
            pages: (*pages).into(),
        };
        (!all.is_empty()).then(|| ReadAheadsPart {
            files: files.into_iter().map(part).collect(),
            others: others.into(),
        })
    }
}
