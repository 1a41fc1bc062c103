//! Rows of the tables that sites refer to.

use rusqlite::{Row, Statement};

use super::MAX_FRAMES;
use crate::model::{Frame, Name};
use crate::trace::reader::others::name;

/// A row of `sites`.
pub(super) struct SiteRow {
    pub(super) thread: i64,
    pub(super) mode: String,
    pub(super) syscall: Option<Name>,
    pub(super) access: Option<String>,
    pub(super) major: Option<bool>,
    pub(super) cause: Option<String>,
    pub(super) mapping: Option<String>,
    pub(super) file: Option<i64>,
    pub(super) at: Option<String>,
    pub(super) base: Option<i64>,
    pub(super) ended: Option<String>,
    pub(super) began_before_attach: bool,
    pub(super) begin_approximate: bool,
    pub(super) given_up: bool,
    pub(super) user_stack: Option<i64>,
    pub(super) kernel_stack: Option<i64>,
}

impl SiteRow {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            thread: row.get(0)?,
            mode: row.get(1)?,
            syscall: name(row, 2)?,
            access: row.get(3)?,
            major: row.get(4)?,
            cause: row.get(5)?,
            mapping: row.get(6)?,
            file: row.get(7)?,
            at: row.get(8)?,
            base: row.get(9)?,
            ended: row.get(10)?,
            began_before_attach: row.get(11)?,
            begin_approximate: row.get(12)?,
            given_up: row.get(15)?,
            user_stack: row.get(13)?,
            kernel_stack: row.get(14)?,
        })
    }
}

/// A frame, and the id of its module.
pub(super) fn read_frame(row: &Row<'_>) -> rusqlite::Result<(Frame, Option<i64>)> {
    let number = |index| {
        let value = row.get::<_, Option<i64>>(index);
        value.map(|value| value.map(i64::cast_unsigned))
    };
    let frame = Frame {
        address: row.get::<_, i64>(0)?.cast_unsigned(),
        function: name(row, 1)?,
        offset: number(2)?,
        module: None,
        module_offset: number(4)?,
        build_id: None,
        file: name(row, 5)?,
        line: row.get(6)?,
        inlined: row.get(7)?,
    };
    Ok((frame, row.get(3)?))
}

/// The frames of a stack, one more than there may be at most.
pub(super) fn frame_ids(statement: &mut Statement<'_>, stack: i64) -> rusqlite::Result<Vec<i64>> {
    let rows = statement.query_map([stack], |row| row.get(0))?;
    rows.take(MAX_FRAMES + 1).collect()
}
