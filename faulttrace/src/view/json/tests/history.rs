//! The pasts of pages.

use super::*;
use crate::model::Past;

#[test]
fn the_past_of_a_page_is_told_as_far_as_it_is_known() {
    let past = |past| {
        let mut fault = samples::fault();
        let history = fault.history.as_mut().unwrap();
        history.past = past;
        let line = one(samples::record(fault));
        check_record(&line);
        line["history"].clone()
    };
    let refault = past(samples::history().past);
    assert_eq!(nulls(&refault), BTreeSet::new());
    assert_eq!(
        (&refault["past"], &refault["how"]),
        (&"refault".into(), &"memcg_reclaim".into())
    );
    let by = &refault["removed_by"];
    assert_eq!(
        (&by["syscall"], &by["cgroup"]),
        (&"read".into(), &"/batch.slice/grep.service".into())
    );
    assert_eq!(refault["filled"]["pages"], 262_144);
    let first = past(Past::FirstTouch);
    assert_eq!(first["past"], "first_touch");
    assert_eq!(nulls(&first).len(), 6, "{first}");
    assert_eq!(past(Past::Unknown)["past"], "unknown");
}
