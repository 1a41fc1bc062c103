//! The formats of exports as values of an option.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::export::Kind;

impl ValueEnum for Kind {
    fn value_variants<'a>() -> &'a [Self] {
        &Kind::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}
