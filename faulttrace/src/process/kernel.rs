//! Names of kernel addresses, from `/proc/kallsyms`, read once: searching the file is slow.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::ops::Range;

/// Larger files are not kallsyms.
const MAX_BYTES: u64 = 256 << 20;

/// Why there are no kernel symbols.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error(
        "read /proc/kallsyms: {0}; the kernel needs CONFIG_KALLSYMS, and /proc must be mounted"
    )]
    Read(#[from] io::Error),
    /// The kernel hides its addresses.
    #[error(
        "/proc/kallsyms has no addresses (kernel.kptr_restrict={restrict}); run with CAP_SYSLOG, and if the value is 2: sysctl kernel.kptr_restrict=1"
    )]
    Hidden {
        /// The setting, or why it is not known.
        restrict: String,
    },
}

/// One symbol; the names are in the text that was read.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    address: u64,
    name: (u32, u32),
    module: (u32, u32),
    /// Code, as opposed to data, which only bounds code.
    code: bool,
}

/// An address explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// Function.
    pub name: &'a str,
    /// Where it begins.
    pub address: u64,
    /// Module, without brackets; `None` for the kernel itself.
    pub module: Option<&'a str>,
}

/// All symbols, by address.
#[derive(Debug, Default)]
pub struct KernelSymbols {
    text: String,
    symbols: Vec<Symbol>,
}

impl KernelSymbols {
    /// Reads the running kernel's.
    pub fn load() -> Result<Self, Error> {
        use std::io::Read as _;
        let mut bytes = Vec::with_capacity(16 << 20);
        fs::File::open("/proc/kallsyms")?
            .take(MAX_BYTES)
            .read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let symbols = Self::parse(text);
        if symbols.symbols.iter().all(|symbol| symbol.address == 0) {
            let restrict = fs::read_to_string("/proc/sys/kernel/kptr_restrict");
            let restrict =
                restrict.map_or_else(|error| error.to_string(), |text| text.trim().to_owned());
            return Err(Error::Hidden { restrict });
        }
        Ok(symbols)
    }

    /// Lines of `ADDRESS TYPE NAME` and a tab with `[MODULE]`; others are ignored.
    #[doc(hidden)]
    pub fn parse(text: String) -> Self {
        let base = text.as_ptr().addr();
        let place = |part: &str| {
            let start = u32::try_from(part.as_ptr().addr() - base).ok()?;
            Some((start, start.checked_add(u32::try_from(part.len()).ok()?)?))
        };
        let line = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let kind = words.next()?;
            let name = place(words.next()?)?;
            let module = words
                .next()
                .and_then(|word| word.strip_prefix('[')?.strip_suffix(']'));
            Some(Symbol {
                address,
                name,
                module: module.map_or(Some((0, 0)), place)?,
                code: matches!(kind, "t" | "T" | "w" | "W"),
            })
        };
        let mut symbols: Vec<Symbol> = text.lines().filter_map(line).collect();
        // Of several names of one address, the first code symbol is found first.
        symbols.sort_by_key(|symbol| (symbol.address, !symbol.code));
        Self { text, symbols }
    }

    /// The addresses of a function: up to the next symbol. Of functions with the same name the one
    /// at the lowest address.
    pub fn range_of(&self, name: &str) -> Option<Range<u64>> {
        let is_it = |symbol: &Symbol| symbol.code && self.text(symbol.name) == name;
        let index = self.symbols.iter().position(is_it)?;
        let start = self.symbols[index].address;
        let later = self.symbols[index..]
            .iter()
            .find(|symbol| symbol.address > start);
        later.map(|next| start..next.address)
    }

    /// The addresses of all functions whose name is wanted, adjacent ones put together. Names come
    /// without what compilers add (`.cold`, `.isra.0`) and without the prefix of a function's padding
    /// (`__pfx_`).
    pub fn ranges_of(&self, wanted: &dyn Fn(&str) -> bool) -> Vec<Range<u64>> {
        let is_wanted = |symbol: &Symbol| {
            let name = self.text(symbol.name);
            let name = name.strip_prefix("__pfx_").unwrap_or(name);
            symbol.code && wanted(name.split('.').next().unwrap_or(name))
        };
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (index, symbol) in self.symbols.iter().enumerate() {
            let later = self.symbols[index..].iter();
            let mut later = later.skip_while(|next| next.address <= symbol.address);
            let end = match (is_wanted(symbol), later.next()) {
                (true, Some(next)) => next.address,
                _ => continue,
            };
            match ranges.last_mut() {
                Some(last) if last.end >= symbol.address => last.end = end,
                _ => ranges.push(symbol.address..end),
            }
        }
        ranges
    }

    /// Where functions begin. For many at once, as each search goes through all symbols.
    pub fn addresses_of<'n>(&self, names: &HashSet<&'n str>) -> HashMap<&'n str, u64> {
        let mut found = HashMap::new();
        for symbol in self.symbols.iter().filter(|symbol| symbol.code) {
            if let Some(name) = names.get(self.text(symbol.name)) {
                // Of functions with the same name the one at the lowest address.
                found.entry(*name).or_insert(symbol.address);
            }
        }
        found
    }

    /// The function that an address lies in.
    pub fn resolve(&self, address: u64) -> Option<Resolved<'_>> {
        let after = self
            .symbols
            .partition_point(|symbol| symbol.address <= address);
        let nearest = self.symbols.get(after.checked_sub(1)?)?.address;
        // Behind the last symbol there is no telling how far its function goes.
        self.symbols.get(after)?;
        let first = self
            .symbols
            .partition_point(|symbol| symbol.address < nearest);
        let symbol = self.symbols[first..after].first()?;
        symbol.code.then(|| Resolved {
            name: self.text(symbol.name),
            address: symbol.address,
            module: Some(self.text(symbol.module)).filter(|module| !module.is_empty()),
        })
    }

    fn text(&self, (start, end): (u32, u32)) -> &str {
        self.text.get(start as usize..end as usize).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> KernelSymbols {
        KernelSymbols::parse(
            "ffffffff81000000 T _text\nffffffff81000000 T startup\nffffffff81000100 t filemap_fault\n\
             ffffffff81000200 D data\nffffffffc0000000 t fuse_do\t[fuse]\nffffffffc0000010 b end\t[fuse]\n\
             garbage\n\nxyz T y\n"
                .to_owned(),
        )
    }

    #[test]
    fn addresses_have_names_only_within_code() {
        let symbols = sample();
        let name = |address| symbols.resolve(address).map(|found| found.name);
        assert_eq!(name(0xffff_ffff_8100_0000), Some("_text"));
        assert_eq!(name(0xffff_ffff_8100_01ff), Some("filemap_fault"));
        assert_eq!(name(0xffff_ffff_8100_0200), None);
        assert_eq!(name(0xffff_ffff_c000_0020), None);
        assert_eq!(name(0), None);
        assert_eq!(
            symbols.resolve(0xffff_ffff_c000_0008),
            Some(Resolved {
                name: "fuse_do",
                address: 0xffff_ffff_c000_0000,
                module: Some("fuse")
            })
        );
    }

    #[test]
    fn adjacent_functions_are_one_range() {
        let symbols = KernelSymbols::parse(
            "10 T __pfx_sysvec_a\n20 T sysvec_a\n20 T alias\n30 T sysvec_b.isra.0\n40 T other\n\
             50 T sysvec_c\n60 D sysvec_data\n70 T sysvec_last\n"
                .to_owned(),
        );
        let ranges = symbols.ranges_of(&|name| name.starts_with("sysvec_"));
        assert_eq!(ranges, [0x10..0x40, 0x50..0x60]);
        let exact = symbols.ranges_of(&|name| name == "sysvec_b");
        assert_eq!(exact.first(), Some(&(0x30..0x40)));
        assert!(symbols.ranges_of(&|name| name == "none").is_empty());
    }

    #[test]
    fn functions_have_ranges() {
        let symbols = sample();
        assert_eq!(
            symbols.range_of("filemap_fault"),
            Some(0xffff_ffff_8100_0100..0xffff_ffff_8100_0200)
        );
        assert_eq!(symbols.range_of("data"), None);
        assert_eq!(symbols.range_of("nothing"), None);
    }

    #[test]
    fn functions_have_addresses() {
        let symbols = KernelSymbols::parse(
            "10 T one\n18 d data\n20 t two\n30 t two\n40 T other\n".to_owned(),
        );
        let wanted = HashSet::from(["two", "one", "data", "nothing"]);
        let found = symbols.addresses_of(&wanted);
        assert_eq!(found, HashMap::from([("one", 0x10), ("two", 0x20)]));
    }
}
