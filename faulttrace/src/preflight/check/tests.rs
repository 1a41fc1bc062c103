//! Judgements of made-up machines.

use super::*;

/// A machine on which everything is well.
pub(in crate::preflight) fn well() -> Facts {
    Facts {
        release: "6.18.44-foo".to_owned(),
        machine: "x86_64".to_owned(),
        page_bytes: 4096,
        uid: 0,
        capabilities: Some(u64::MAX),
        memlock_bytes: 8 << 20,
        btf: Ok(()),
        lockdown: Lockdown::Mode("integrity".to_owned()),
        kallsyms: Kallsyms::Readable,
        kptr_restrict: Some(0),
        perf_event_paranoid: Some(2),
        perf_event_max_stack: Some(127),
        initial_pid_namespace: Some(true),
        tracefs: None,
        ring_buffer: Ok(()),
        perf_event: Ok(()),
        fexit: None,
        types: None,
    }
}

fn state_of(facts: &Facts, name: &str) -> (State, Check) {
    let check = all(facts)
        .into_iter()
        .find(|check| check.name == name)
        .expect("a check of that name");
    (check.state, check)
}

#[test]
fn a_well_machine_passes() {
    assert!(possible(&all(&well()), &[]));
    assert!(
        all(&well())
            .iter()
            .all(|check| check.state == State::Ok && check.fix.is_empty())
    );
}

#[test]
fn larger_pages_are_refused() {
    let large = Facts {
        page_bytes: 65536,
        ..well()
    };
    let (state, check) = state_of(&large, "page size");
    assert_eq!((state, &*check.found), (State::Missing, "65536 bytes"));
    assert!(check.fix.contains("linux-image-arm64"));
}

#[test]
fn versions_compare_as_numbers() {
    for (release, state) in [
        ("5.10.0", State::Ok),
        ("7.0.0-rc1", State::Ok),
        ("10.1", State::Ok),
        ("6.1.0-18-amd64", State::Ok),
        ("5.9.16", State::Missing),
        ("4.19.0", State::Missing),
        ("2.6.78-1", State::Missing),
        ("what", State::Degraded),
    ] {
        assert_eq!(
            state_of(
                &Facts {
                    release: release.to_owned(),
                    ..well()
                },
                "kernel"
            )
            .0,
            state,
            "{release}"
        );
    }
}

#[test]
fn each_missing_thing_names_itself_and_its_cure() {
    let broken = [
        (
            "privileges",
            Facts {
                capabilities: Some(0),
                uid: 1000,
                ..well()
            },
            "sudo",
        ),
        (
            "lockdown",
            Facts {
                lockdown: Lockdown::Mode("confidentiality".to_owned()),
                ..well()
            },
            "lockdown=integrity",
        ),
        (
            "kernel types",
            Facts {
                btf: Err("No such file".to_owned()),
                ..well()
            },
            "CONFIG_DEBUG_INFO_BTF",
        ),
        (
            "kernel symbols",
            Facts {
                kallsyms: Kallsyms::Hidden,
                kptr_restrict: Some(2),
                ..well()
            },
            "kptr_restrict=1",
        ),
        (
            "bpf",
            Facts {
                ring_buffer: Err("EPERM".to_owned()),
                ..well()
            },
            "root",
        ),
        (
            "perf events",
            Facts {
                perf_event: Err("EACCES".to_owned()),
                ..well()
            },
            "perf_event_paranoid",
        ),
    ];
    for (name, facts, cure) in broken {
        let (state, check) = state_of(&facts, name);
        assert_eq!(state, State::Missing, "{name}");
        assert!(check.fix.contains(cure), "{name}: {}", check.fix);
        assert!(!possible(&all(&facts), &[]), "{name}");
    }
}

#[test]
fn a_containers_ids_are_no_obstacle() {
    let (state, check) = state_of(
        &Facts {
            initial_pid_namespace: Some(false),
            ..well()
        },
        "pid namespace",
    );
    assert_eq!(state, State::Degraded);
    assert!(check.fix.contains("--pid=host"));
}

#[test]
fn capabilities_without_admin_degrade() {
    let some = (1 << 39) | (1 << 38);
    let (state, check) = state_of(
        &Facts {
            capabilities: Some(some),
            uid: 1000,
            ..well()
        },
        "privileges",
    );
    assert_eq!(state, State::Degraded);
    assert!(
        check.found.contains("CAP_SYS_PTRACE") && !check.found.contains("CAP_BPF"),
        "{}",
        check.found
    );
    assert_eq!(
        state_of(
            &Facts {
                capabilities: Some(1 << 39),
                ..well()
            },
            "privileges"
        )
        .0,
        State::Missing
    );
}
