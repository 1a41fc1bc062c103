//! What devices did for a fault, in words.

use super::words::{duration, name, plural, size};
use crate::model::{Device, Io, Served};

/// `loop0 (7:0)`.
pub(in crate::view) fn device(device: &Device) -> String {
    let numbers = device.numbers();
    match &device.name {
        Some(text) => format!("{} ({numbers})", name(text)),
        None => numbers,
    }
}

/// `device loop0: 128 KiB in 1 request, queued 200 µs, served 9.80 ms`.
pub(in crate::view) fn work(io: &Io) -> String {
    asked(io) + &held(io) + &times(io)
}

/// Of a fault that goes on: `device sda: 4 KiB in 1 request, not completed so far`.
pub(in crate::view) fn work_so_far(io: &Io) -> String {
    if let (None, 0, Some(held_ns)) = (&io.device, io.requests, io.held_ns)
        && held_ns > 0
    {
        return format!(
            "no device was seen to be asked so far: a limit (io.max of a cgroup) may hold back its read of {}, for {} \
             by now",
            size(io.bytes),
            duration(held_ns)
        );
    }
    let far = match (io.requests, io.completed) {
        (0, _) => ": the device has taken none so far, or works without".to_owned(),
        (1, 0) => ", not completed so far".to_owned(),
        (_, 0) => ", none completed so far".to_owned(),
        (requests, completed) if completed < requests => format!(", {completed} completed so far"),
        _ => ", completed".to_owned(),
    };
    asked(io) + &held(io) + &far
}

fn asked(io: &Io) -> String {
    let named = io.device.as_ref();
    let mut text = match named.map(|known| known.name.as_ref().map_or_else(|| device(known), name))
    {
        Some(known) => format!("device {known}: "),
        None => "a device that is not known: ".to_owned(),
    };
    text += &format!(
        "{} in {}",
        size(io.bytes),
        plural(u64::from(io.requests), "request")
    );
    if io.shared > 0 && io.requests == 1 {
        text += ", shared with others";
    } else if io.shared > 0 {
        text += &format!(", {} shared with others", io.shared);
    }
    if io.elsewhere > 0 {
        text += &format!(", {} of them to other devices", io.elsewhere);
    }
    text
}

fn held(io: &Io) -> String {
    match io.held_ns {
        Some(held_ns) if held_ns > 0 => format!(", held back by a limit {}", duration(held_ns)),
        _ => String::new(),
    }
}

fn times(io: &Io) -> String {
    let times = |times: Served| {
        format!(
            "queued {}, served {}",
            duration(times.queued_ns),
            duration(times.served_ns)
        )
    };
    match (io.requests, io.completed, io.last) {
        (0, ..) => ": the device took none within the fault, or works without".to_owned(),
        (_, 0, _) => ", none of them completed within the fault".to_owned(),
        (1, 1, Some(last)) => format!(", {}", times(last)),
        (_, completed, last) => {
            let last = last.map_or_else(|| "took too long to be told".to_owned(), times);
            format!(", {completed} completed within the fault; the last: {last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::summary::samples;

    #[test]
    fn what_devices_did_is_told_in_words() {
        let mut io = samples::io();
        assert_eq!(
            work(&io),
            "device nvme0n1: 128 KiB in 3 requests, 1 shared with others, 2 completed within the \
             fault; the last: queued 200 µs, served 11.0 ms"
        );
        (io.requests, io.completed) = (1, 1);
        assert_eq!(
            work(&io),
            "device nvme0n1: 128 KiB in 1 request, shared with others, queued 200 µs, served 11.0 ms"
        );
        io.held_ns = Some(30_000_000);
        assert_eq!(
            work(&io),
            "device nvme0n1: 128 KiB in 1 request, shared with others, held back by a limit 30.0 ms, \
             queued 200 µs, served 11.0 ms"
        );
        io.held_ns = None;
        (io.shared, io.completed, io.last) = (0, 0, None);
        assert_eq!(
            work(&io),
            "device nvme0n1: 128 KiB in 1 request, none of them completed within the fault"
        );
        io.requests = 0;
        io.device = None;
        assert_eq!(
            work(&io),
            "a device that is not known: 128 KiB in 0 requests: the device took none within the \
             fault, or works without"
        );
    }

    #[test]
    fn a_read_that_is_held_back_still_has_no_device() {
        let mut io = samples::io();
        (io.requests, io.completed, io.device) = (0, 0, None);
        (io.bytes, io.held_ns) = (4096, Some(30_000_000));
        assert_eq!(
            work_so_far(&io),
            "no device was seen to be asked so far: a limit (io.max of a cgroup) may hold back its read of 4 KiB, \
             for 30.0 ms by now"
        );
        io.held_ns = Some(0);
        assert!(work_so_far(&io).starts_with("a device that is not known: "));
    }

    #[test]
    fn a_name_is_escaped() {
        let mut io = samples::io();
        if let Some(device) = &mut io.device {
            device.name = Some(crate::model::Name::from("a\x1b[31m"));
        }
        assert!(!work(&io).contains('\x1b'));
    }
}
