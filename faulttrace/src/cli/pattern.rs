//! Patterns of thread names and paths, for saved traces.

/// A glob over bytes: `*` stands for any of them, `?` for one, everything else for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<u8>);

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a pattern cannot be empty; * matches everything".to_owned());
        }
        Ok(Self(text.as_bytes().to_vec()))
    }

    /// As it was written.
    pub fn text(&self) -> &[u8] {
        &self.0
    }

    /// Whether all of the bytes match.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let pattern = &self.0;
        let (mut at, mut in_pattern) = (0, 0);
        // Where to go on if what follows the last `*` did not match: it takes one byte more.
        let mut retry: Option<(usize, usize)> = None;
        while at < bytes.len() {
            match pattern.get(in_pattern) {
                Some(b'*') => {
                    in_pattern += 1;
                    retry = Some((at, in_pattern));
                }
                Some(wanted) if *wanted == b'?' || Some(wanted) == bytes.get(at) => {
                    at += 1;
                    in_pattern += 1;
                }
                _ => match &mut retry {
                    None => return false,
                    Some((taken, behind_star)) => {
                        *taken += 1;
                        at = *taken;
                        in_pattern = *behind_star;
                    }
                },
            }
        }
        pattern.iter().skip(in_pattern).all(|byte| *byte == b'*')
    }

    /// Whether a path matches, or its last component.
    pub fn matches_path(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        self.matches(path) || self.matches(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, bytes: &str) -> bool {
        Pattern::parse(pattern)
            .expect(pattern)
            .matches(bytes.as_bytes())
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name) in [
            ("a*c", "abbc"),
            ("a*c", "ac"),
            ("*", ""),
            ("**x*", "yyxzz"),
            ("?b?", "abc"),
            ("worker-*-?", "worker-12-3"),
            ("*ab", "aab"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "ab"), ("a?", "a"), ("*a", "ab"), ("a*b", "acbd")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert!(Pattern::parse("").is_err());
    }

    #[test]
    fn many_stars_end_soon() {
        let pattern = "*a".repeat(50) + "b";
        assert!(!matches(&pattern, &"a".repeat(20_000)));
    }

    #[test]
    fn a_path_matches_by_its_name_too() {
        let pattern = Pattern::parse("*.db").expect("a pattern");
        assert!(pattern.matches_path(b"/data/table.db"));
        let pattern = Pattern::parse("table.db").expect("a pattern");
        assert!(pattern.matches_path(b"/data/table.db"));
        assert!(!pattern.matches_path(b"/data/table.db/x"));
    }
}
