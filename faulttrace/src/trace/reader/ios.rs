//! What devices did for faults: a table with a row for some of the faults, gone through beside them.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Row, Statement};

use super::beside::{Beside, Read, Select};
use super::others::name;
use super::{Errors, Order};
use crate::model::{Device, Io, Served};
use crate::trace::{Result, schema};

/// Devices that are remembered.
const MAX_DEVICES: usize = 1024;

const TABLE: &str = "fault_io";

/// The statements.
pub(super) struct Ios<'c> {
    rows: Select<'c, (Option<i64>, Io)>,
    device: Option<Statement<'c>>,
}

/// The rows, in the order of the faults.
pub(super) struct Begun<'s, 'c> {
    rows: Beside<'s, (Option<i64>, Io)>,
    device: Option<&'s mut Statement<'c>>,
    devices: HashMap<i64, Device>,
    errors: Errors<'s>,
}

impl<'c> Ios<'c> {
    /// Of a file of this minor version.
    pub(super) fn new(
        db: &'c Connection,
        order: Order,
        minor: i32,
        errors: Errors<'_>,
    ) -> Result<Self> {
        let held = schema::selected(TABLE, "held_ns", minor, "NULL");
        let columns = format!(
            "device, requests, shared, elsewhere, completed, bytes, queued_ns, served_ns, \
             last_queued_ns, last_served_ns, {held}"
        );
        let table = (TABLE, &*columns, read as Read<_>);
        let rows = Select::new(db, table, order, minor, errors)?;
        let select = "SELECT major, minor, name FROM devices NOT INDEXED WHERE rowid = ?";
        let device = rows.is_there().then(|| db.prepare(select)).transpose();
        Ok(Self {
            rows,
            device: device.map_err(|error| errors.database(error))?,
        })
    }

    pub(super) fn begin<'s>(&'s mut self, size: u64, errors: Errors<'s>) -> Result<Begun<'s, 'c>> {
        Ok(Begun {
            rows: self.rows.begin(size, errors)?,
            device: self.device.as_mut(),
            devices: HashMap::new(),
            errors,
        })
    }
}

impl Begun<'_, '_> {
    /// Of the record of this number, which comes after all that were asked for before.
    pub(super) fn of(&mut self, record: i64) -> Result<Option<Box<Io>>> {
        let Some((device, mut io)) = self.rows.of(record)? else {
            return Ok(None);
        };
        io.device = self.device(device)?;
        Ok(Some(Box::new(io)))
    }

    fn device(&mut self, id: Option<i64>) -> Result<Option<Device>> {
        let (Some(id), Some(statement)) = (id, &mut self.device) else {
            return Ok(None);
        };
        if let Some(known) = self.devices.get(&id) {
            return Ok(Some(known.clone()));
        }
        let read = |row: &Row<'_>| {
            Ok(Device {
                major: row.get(0)?,
                minor: row.get(1)?,
                name: name(row, 2)?,
            })
        };
        let found = statement.query_row([id], read).optional();
        let found = found.map_err(|error| self.errors.row("devices", id, &error))?;
        let Some(device) = found else {
            let what = format!("there is no row {id} of devices");
            return Err(self.errors.damaged(what));
        };
        if self.devices.len() >= MAX_DEVICES {
            self.devices.clear();
        }
        self.devices.insert(id, device.clone());
        Ok(Some(device))
    }
}

/// A row, without its device.
fn read(row: &Row<'_>) -> rusqlite::Result<(Option<i64>, Io)> {
    let number = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
    let optional = |index| {
        row.get::<_, Option<i64>>(index)
            .map(|value| value.map(i64::cast_unsigned))
    };
    let last = optional(9)?.zip(optional(10)?);
    let io = Io {
        device: None,
        requests: row.get(2)?,
        shared: row.get(3)?,
        elsewhere: row.get(4)?,
        completed: row.get(5)?,
        bytes: number(6)?,
        queued_ns: number(7)?,
        served_ns: number(8)?,
        held_ns: optional(11)?,
        last: last.map(|(queued_ns, served_ns)| Served {
            queued_ns,
            served_ns,
        }),
    };
    Ok((row.get(1)?, io))
}
