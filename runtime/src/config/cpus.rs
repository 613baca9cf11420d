//! Which CPUs the shards take.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The highest CPU number that a set may hold: the kernel's own limit for `cpu_set_t`.
pub const CPU_MAX: usize = 1023;

/// Which CPUs the shards take: in TOML `"auto"`, `4` or `"2-5,8"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cpus {
    /// One shard on each CPU that the process is allowed.
    #[default]
    Auto,
    /// So many shards, on the first allowed CPUs.
    Count(usize),
    /// One shard on each of these CPUs, by the kernel's numbers, in this order.
    List(Vec<usize>),
}

impl Cpus {
    /// How many shards this asks for on a machine that allows `allowed` CPUs.
    #[must_use]
    pub fn shards(&self, allowed: usize) -> usize {
        match self {
            Self::Auto => allowed,
            Self::Count(count) => *count,
            Self::List(cpus) => cpus.len(),
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
            Self::List(cpus) => {
                for (position, cpu) in cpus.iter().enumerate() {
                    write!(f, "{}{cpu}", if position == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

/// Why a text names no CPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCpus {
    /// Neither `auto`, a count, nor a list of numbers and ranges.
    #[error("`{text}` is no set of CPUs: write \"auto\", a count such as 4, or a list such as \"2-5,8\"")]
    Form {
        /// What was given.
        text: String,
    },
    /// A range that runs backwards.
    #[error("the range {first}-{last} runs backwards: write {last}-{first}")]
    Backwards {
        /// The number before the dash.
        first: usize,
        /// The number after the dash.
        last: usize,
    },
    /// A CPU number above what the kernel's set can hold.
    #[error("CPU {cpu} is above the highest possible number, {}", CPU_MAX)]
    TooHigh {
        /// The number given.
        cpu: usize,
    },
}

impl FromStr for Cpus {
    type Err = InvalidCpus;

    fn from_str(text: &str) -> Result<Self, InvalidCpus> {
        let form = || InvalidCpus::Form { text: text.to_owned() };
        let number = |digits: &str| -> Result<usize, InvalidCpus> {
            let digits = digits.trim();
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(form());
            }
            digits.parse().map_err(|_| form())
        };
        let trimmed = text.trim();
        if trimmed == "auto" {
            return Ok(Self::Auto);
        }
        let mut cpus = Vec::new();
        for part in trimmed.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(InvalidCpus::Backwards { first, last });
            }
            if last > CPU_MAX {
                return Err(InvalidCpus::TooHigh { cpu: last });
            }
            // A CPU named twice stays twice here, so that validation can name it.
            cpus.extend(first..=last);
            if cpus.len() > 2 * CPU_MAX {
                return Err(form());
            }
        }
        Ok(Self::List(cpus))
    }
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Cpus;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\", a count such as 4, or a list such as \"2-5,8\"")
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Cpus, E> {
                // Zero passes here and is refused by validation, together with the other zeros.
                usize::try_from(count)
                    .map(Cpus::Count)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(count), &self))
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Cpus, E> {
                usize::try_from(count)
                    .map(Cpus::Count)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(count), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cpus, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => super::quantity::whole(count, serializer),
            Self::Auto | Self::List(_) => serializer.collect_str(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read_in_their_order() {
        for (text, expected) in [
            ("auto", Cpus::Auto),
            (" auto ", Cpus::Auto),
            ("3", Cpus::List(vec![3])),
            ("2-5,8", Cpus::List(vec![2, 3, 4, 5, 8])),
            ("8, 2-3", Cpus::List(vec![8, 2, 3])),
            ("1,1", Cpus::List(vec![1, 1])),
            ("1023", Cpus::List(vec![1023])),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_their_reason() {
        let form = |text: &str| InvalidCpus::Form { text: text.to_owned() };
        for text in ["", "all", "2-", "-2", "2--3", "1,,2", "1;2", "0x2", "+1", "99999999999999999999"] {
            assert_eq!(text.parse::<Cpus>(), Err(form(text)), "{text}");
        }
        assert_eq!("5-2".parse::<Cpus>(), Err(InvalidCpus::Backwards { first: 5, last: 2 }));
        assert_eq!("0-1024".parse::<Cpus>(), Err(InvalidCpus::TooHigh { cpu: 1024 }));
    }

    #[test]
    fn what_is_displayed_reads_back() {
        for cpus in [Cpus::Auto, Cpus::List(vec![4, 2, 9])] {
            assert_eq!(cpus.to_string().parse(), Ok(cpus));
        }
    }
}
