//! What the guest says on its console, and whether that is what was asked for.

use super::suite::Asked;

/// Begins every line that is meant for the host.
const MARK: &str = "faulttrace-vm: ";

/// What a guest has said so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// The kernel, once its disk is up.
    pub(super) release: Option<String>,
    /// How it preempts itself, if that could have been chosen.
    pub(super) preempt: Option<String>,
    /// What has tainted the kernel (Documentation/admin-guide/tainted-kernels.rst).
    tainted: Option<u32>,
    programs: Vec<Ran>,
    /// It said that it was through.
    pub(super) ended: bool,
}

/// One program's verdict line.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    name: String,
    passed: Option<usize>,
    failed: Option<usize>,
    ignored: Option<usize>,
    exit: Option<i32>,
}

impl Heard {
    /// Takes in one line of the console. Whether it was for the host.
    pub(super) fn line(&mut self, line: &str) -> bool {
        let Some(text) = line.trim().strip_prefix(MARK) else {
            return false;
        };
        match text.split_once(' ') {
            Some(("kernel", release)) => self.release = Some(release.to_owned()),
            Some(("preempt", how)) => self.preempt = Some(how.to_owned()),
            Some(("tainted", bits)) => self.tainted = bits.parse().ok(),
            Some(("program", verdict)) => self.programs.push(ran(verdict)),
            None if text == "end" => self.ended = true,
            _ => {}
        }
        true
    }

    /// Whether the kernel had nothing to complain of: no oops, no warning.
    pub(super) fn is_unharmed(&self) -> bool {
        const DIED: u32 = 1 << 7;
        const WARNED: u32 = 1 << 9;
        self.tainted.is_some_and(|bits| bits & (DIED | WARNED) == 0)
    }

    /// Whether any program has said how it ended.
    pub(super) fn any_program(&self) -> bool {
        !self.programs.is_empty()
    }

    /// A line for each program, and whether each ran all its tests and none failed.
    pub(super) fn judge(&self, asked: &[Asked]) -> Vec<(String, bool)> {
        asked.iter().map(|asked| self.judge_one(asked)).collect()
    }

    fn judge_one(&self, asked: &Asked) -> (String, bool) {
        let name = &asked.name;
        let mut found = self.programs.iter().filter(|ran| ran.name == *name);
        let (Some(ran), None) = (found.next(), found.next()) else {
            return (format!("{name}: no verdict, or more than one"), false);
        };
        let all = asked.tests;
        let number = |count: Option<usize>| count.map_or("?".to_owned(), |count| count.to_string());
        let text = format!(
            "{name}: {} of {all} passed, {} failed, {} ignored",
            number(ran.passed),
            number(ran.failed),
            number(ran.ignored)
        );
        let fine = (ran.passed, ran.failed, ran.ignored, ran.exit)
            == (Some(all), Some(0), Some(0), Some(0));
        (text, fine)
    }
}

/// `NAME passed=N failed=N ignored=N exit=N`.
fn ran(verdict: &str) -> Ran {
    let mut words = verdict.split_whitespace();
    let name = words.next().unwrap_or_default().to_owned();
    let fields: Vec<_> = words.filter_map(|word| word.split_once('=')).collect();
    let field = |name: &str| {
        fields
            .iter()
            .find(|(key, _)| *key == name)
            .map(|found| found.1)
    };
    let count = |name: &str| field(name)?.parse().ok();
    Ran {
        name,
        passed: count("passed"),
        failed: count("failed"),
        ignored: count("ignored"),
        exit: field("exit").and_then(|code| code.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&str]) -> Heard {
        let mut heard = Heard::default();
        for line in lines {
            heard.line(line);
        }
        heard
    }

    fn fine(lines: &[&str]) -> bool {
        let asked = Asked {
            name: "exact".to_owned(),
            arguments: Vec::new(),
            tests: 2,
        };
        heard(lines).judge(&[asked])[0].1
    }

    #[test]
    fn all_tests_asked_for_must_have_passed() {
        let passed = "faulttrace-vm: program exact passed=2 failed=0 ignored=0 exit=0";
        assert!(fine(&["noise", passed, "faulttrace-vm: end"]));
        assert!(!fine(&[passed, passed]), "twice");
        assert!(!fine(&[]), "no verdict");
        for other in [
            "passed=1 failed=0 ignored=0 exit=0",
            "passed=2 failed=0 ignored=1 exit=0",
            "passed=1 failed=1 ignored=0 exit=101",
            "passed=2 failed=0 ignored=0 exit=1",
            "passed=? failed=? ignored=? exit=139",
            "passed=2",
        ] {
            assert!(!fine(&[&format!("faulttrace-vm: program exact {other}")]));
        }
    }

    #[test]
    fn only_marked_lines_count() {
        let lines = [
            "faulttrace-vm: kernel 6.1.0-50",
            "faulttrace-vm: preempt full",
            "faulttrace-vm: tainted 8192",
            "faulttrace-vm: end\r",
            "end",
        ];
        let heard = heard(&lines);
        assert_eq!(heard.release.as_deref(), Some("6.1.0-50"));
        assert_eq!(heard.preempt.as_deref(), Some("full"));
        assert!(heard.is_unharmed());
        for harmed in ["faulttrace-vm: tainted 512", "faulttrace-vm: tainted 8320"] {
            assert!(!self::heard(&[harmed]).is_unharmed());
        }
        assert!(heard.ended);
        assert!(!Heard::default().line("faulttrace-vm end"));
    }
}
