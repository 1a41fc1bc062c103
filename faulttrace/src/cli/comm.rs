//! Patterns of process names, in the form in which the kernel programs match them.

/// Longest name the kernel keeps (`TASK_COMM_LEN` - 1).
const NAME_MAX: usize = 15;
/// Most atoms a pattern may have: one bit each, and one for the end.
const ATOMS_MAX: usize = 31;

/// A glob over a process's `comm`: `*` stands for any bytes, `?` for one, everything else for
/// itself. Compiled to a set of states, one bit each; `faulttrace-ebpf` runs the same loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommPattern {
    /// Bit i of entry b: byte b may stand for atom i.
    pub masks: Box<[u32; 256]>,
    /// Bit i: a `*` stands after i atoms.
    pub star: u32,
    /// Bit n: the pattern has n atoms.
    pub accept: u32,
}

impl CommPattern {
    /// Compiles a pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a pattern cannot be empty; for every process: --all".to_owned());
        }
        let (mut masks, mut star, mut atoms) = (Box::new([0; 256]), 0, 0);
        for byte in text.bytes() {
            if byte == b'*' {
                star |= 1 << atoms;
                continue;
            }
            if atoms == ATOMS_MAX {
                return Err(format!(
                    "a pattern cannot have more than {ATOMS_MAX} characters besides *"
                ));
            }
            let bit = 1 << atoms;
            if byte == b'?' {
                masks.iter_mut().for_each(|mask| *mask |= bit);
            } else {
                masks[usize::from(byte)] |= bit;
            }
            atoms += 1;
        }
        if atoms > NAME_MAX {
            return Err(format!(
                "no name can match: the kernel keeps {NAME_MAX} bytes of it; end the pattern with *"
            ));
        }
        Ok(Self {
            masks,
            star,
            accept: 1 << atoms,
        })
    }

    /// Whether a name matches. It ends at a NUL.
    pub fn matches(&self, comm: &[u8]) -> bool {
        let name = comm
            .iter()
            .take_while(|byte| **byte != 0)
            .take(NAME_MAX + 1);
        let states = name.fold(1, |states, byte| {
            ((states & self.masks[usize::from(*byte)]) << 1) | (states & self.star)
        });
        states & self.accept != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of a glob, written without care for speed.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                naive(rest, name) || (!name.is_empty() && naive(pattern, &name[1..]))
            }
            ([b'?', rest @ ..], [_, tail @ ..]) => naive(rest, tail),
            ([byte, rest @ ..], [first, tail @ ..]) => byte == first && naive(rest, tail),
            _ => false,
        }
    }

    /// Every text up to a length over an alphabet.
    fn texts(alphabet: &[u8], longest: usize) -> Vec<Vec<u8>> {
        let mut all = vec![Vec::new()];
        let mut last = all.clone();
        for _ in 0..longest {
            last = last
                .iter()
                .flat_map(|text| {
                    alphabet
                        .iter()
                        .map(move |byte| [text.as_slice(), &[*byte]].concat())
                })
                .collect();
            all.extend(last.clone());
        }
        all
    }

    #[test]
    fn it_agrees_with_the_definition() {
        let names = texts(b"ab", 5);
        for pattern in texts(b"a*?", 4)
            .iter()
            .filter(|pattern| !pattern.is_empty())
        {
            let compiled =
                CommPattern::parse(std::str::from_utf8(pattern).expect("ASCII")).expect("compiles");
            for name in &names {
                assert_eq!(
                    compiled.matches(name),
                    naive(pattern, name),
                    "{:?} {:?}",
                    pattern.escape_ascii().to_string(),
                    name.escape_ascii().to_string()
                );
            }
        }
    }

    #[test]
    fn names_end_at_nul_and_bytes_need_not_be_ascii() {
        let pattern = CommPattern::parse("postgres*").expect("compiles");
        assert!(pattern.matches(b"postgres\0\0\0garb"));
        assert!(!pattern.matches(b"postgre\0s"));
        assert!(
            CommPattern::parse("é")
                .expect("compiles")
                .matches("é".as_bytes())
        );
    }

    #[test]
    fn what_can_never_match_is_refused() {
        assert!(CommPattern::parse("").is_err());
        assert!(CommPattern::parse("sixteen-bytes-ab").is_err());
        assert!(CommPattern::parse("fifteen-bytes-a*").is_ok());
        assert!(CommPattern::parse(&"?".repeat(40)).is_err());
    }
}
