//! What of the kernel's own count of major faults is not among the majors reported.

/// The kernel's `maj_flt` against ours. Nothing here is clamped: more majors reported than the
/// kernel counted is a defect that must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remainder {
    /// How much `maj_flt` grew; `None` if it could not be read.
    pub maj_flt_delta: Option<u64>,
    /// Majors reported.
    pub majors: u64,
    /// Majors that a filter held back while it was traced; `None` if they, or those that were not asked for
    /// later, cannot be told for this process alone.
    pub filtered_majors: Option<u64>,
    /// Majors of a saved trace that were not asked for, over all processes.
    pub not_selected_majors: u64,
}

impl Default for Remainder {
    /// Of no process at all: nothing is known of `maj_flt`.
    fn default() -> Self {
        Remainder {
            maj_flt_delta: None,
            majors: 0,
            filtered_majors: Some(0),
            not_selected_majors: 0,
        }
    }
}

impl Remainder {
    /// `maj_flt_delta` − `majors` − those filtered and not asked for; `None` if a part is unknown.
    pub fn value(&self) -> Option<i64> {
        let value = i128::from(self.maj_flt_delta?)
            - i128::from(self.majors)
            - i128::from(self.filtered_majors?)
            - i128::from(self.not_selected_majors);
        i64::try_from(value).ok()
    }

    /// Of both together.
    pub(super) fn plus(&self, other: &Remainder) -> Remainder {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        Remainder {
            maj_flt_delta: sum(self.maj_flt_delta, other.maj_flt_delta),
            majors: self.majors.saturating_add(other.majors),
            filtered_majors: sum(self.filtered_majors, other.filtered_majors),
            not_selected_majors: self
                .not_selected_majors
                .saturating_add(other.not_selected_majors),
        }
    }

    /// The result in words, some sentences, without a final newline. `lost` is the number of events that
    /// were lost: majors may be among them.
    pub fn explain(&self, lost: u64) -> String {
        let Some(delta) = self.maj_flt_delta else {
            return "The kernel's own count (maj_flt) could not be read: whether all major \
                    faults were reported is unknown."
                .to_owned();
        };
        let filtered = match self.filtered_majors {
            Some(filtered) if filtered > 0 => format!(", filtered: {filtered}"),
            _ => String::new(),
        };
        if self.not_selected_majors == 0 {
            let majors = format!(
                "maj_flt of the kernel: +{delta}, majors reported: {}",
                self.majors
            );
            return format!("{majors}{filtered}. {}", self.compare(delta, lost));
        }
        // The kernel did not count what is shown for itself, so there is nothing to compare.
        let not_selected = match self.filtered_majors {
            Some(_) => format!(", not asked for: {}", self.not_selected_majors),
            None => String::new(),
        };
        format!(
            "maj_flt of the kernel: +{delta} in the whole trace, majors shown: {}{filtered}{not_selected}.",
            self.majors
        )
    }

    /// The majors against the kernel's count.
    fn compare(&self, delta: u64, lost: u64) -> String {
        let Some(value) = self.value() else {
            return format!(
                "The kernel counted {delta} major faults, {} are reported; filters held back \
                 some, counted over all processes together only.",
                self.majors
            );
        };
        let majors = plural(value.unsigned_abs(), "major fault");
        match value {
            0 => "Every major fault that the kernel counted is accounted for.".to_owned(),
            1.. if lost > 0 => format!(
                "{majors} not reported: lost (see below), or taken without an exception \
                 (get_user_pages: MADV_POPULATE, mlock, O_DIRECT, process_vm_readv)."
            ),
            1.. => format!(
                "{majors} taken without an exception (get_user_pages: MADV_POPULATE, mlock, \
                 O_DIRECT, process_vm_readv), while faulttrace attached or detached, or without a \
                 word by a kernel that preempts itself."
            ),
            _ if self.filtered_majors != Some(0) => format!(
                "{majors} more reported and filtered than the kernel counted: filtered ones count, too, \
                 if they ended while faulttrace attached or detached."
            ),
            _ => format!(
                "{majors} more reported than the kernel counted: a thread's count was read at \
                 another moment than its faults, or faulttrace is wrong. Please report it."
            ),
        }
    }
}

fn plural(count: u64, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}
