//! Those whose end the session waits for, by process: thousands may end at once.

use std::collections::HashMap;

use super::super::targets::Awaited;

/// All of them.
#[derive(Default)]
pub(in crate::session) struct AwaitedEnds(HashMap<u32, Vec<Awaited>>);

impl From<Vec<Awaited>> for AwaitedEnds {
    fn from(all: Vec<Awaited>) -> Self {
        let mut ends = Self::default();
        all.into_iter().for_each(|awaited| ends.push(awaited));
        ends
    }
}

impl AwaitedEnds {
    pub(super) fn push(&mut self, awaited: Awaited) {
        self.0.entry(awaited.pid).or_default().push(awaited);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a process, or a thread of it, is among them.
    pub(super) fn has(&self, pid: u32) -> bool {
        self.0.contains_key(&pid)
    }

    /// Who has ended: processes, and threads with theirs.
    pub(super) fn gone(&self) -> Vec<(u32, Option<u32>)> {
        let all = self.0.values().flatten();
        let gone = all.filter(|awaited| awaited.is_gone());
        gone.map(|awaited| (awaited.pid, awaited.tid)).collect()
    }

    /// Whether a process, or an awaited thread of it, has ended.
    pub(super) fn is_gone(&self, pid: u32) -> bool {
        let of_pid = self.0.get(&pid);
        of_pid.is_some_and(|all| all.iter().any(Awaited::is_gone))
    }

    /// A thread was seen to end.
    pub(super) fn thread_ended(&mut self, pid: u32, tid: u32) {
        self.retain(pid, |awaited| awaited.tid != Some(tid));
    }

    /// Lets go of those of a process that have ended, not of another with the same id.
    pub(super) fn forget_gone(&mut self, pid: u32) {
        self.retain(pid, |awaited| !awaited.is_gone());
    }

    /// The same for a process or a thread alone; whether there was such a one.
    pub(super) fn forget_gone_one(&mut self, pid: u32, tid: Option<u32>) -> bool {
        self.retain(pid, |awaited| awaited.tid != tid || !awaited.is_gone())
    }

    fn retain(&mut self, pid: u32, stays: impl FnMut(&Awaited) -> bool) -> bool {
        let Some(of_pid) = self.0.get_mut(&pid) else {
            return false;
        };
        let before = of_pid.len();
        of_pid.retain(stays);
        let after = of_pid.len();
        if after == 0 {
            self.0.remove(&pid);
        }
        after < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_ended_is_let_go_of_and_others_stay() {
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let (own, ended) = (std::process::id(), child.id());
        let awaited = [own, ended].map(Awaited::process);
        child.wait().expect("ended");
        let mut ends = AwaitedEnds::from(Vec::from(awaited));
        assert_eq!(ends.gone(), [(ended, None)]);
        assert!(ends.is_gone(ended) && !ends.is_gone(own));
        ends.thread_ended(ended, ended);
        assert!(!ends.forget_gone_one(own, None));
        assert!(!ends.forget_gone_one(ended, Some(ended)), "all of it");
        assert!(ends.forget_gone_one(ended, None));
        assert!(!ends.has(ended) && ends.has(own) && !ends.is_empty());
    }

    #[test]
    fn another_with_the_same_id_stays() {
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let own = std::process::id();
        let mut former = Awaited::process(child.id());
        child.wait().expect("ended");
        former.pid = own;
        let mut ends = AwaitedEnds::from(vec![former, Awaited::process(own)]);
        ends.forget_gone(own);
        assert!(ends.has(own) && ends.gone().is_empty());
    }
}
