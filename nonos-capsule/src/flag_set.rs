/// An enum of flags, and the set of them: bits in wire form, names in TOML and JSON.
macro_rules! flag_set {
    (
        $(#[$flag_doc:meta])* $flag:ident,
        $(#[$set_doc:meta])* $set:ident($bits:ty),
        $what:literal,
        $($(#[$doc:meta])* $number:literal $variant:ident $name:literal,)*
    ) => {
        $(#[$flag_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum $flag {
            $($(#[$doc])* $variant = $number,)*
        }

        impl $flag {
            /// All of them, by ascending number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in settings and reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            const fn bit(self) -> $bits {
                1 << (self as u8)
            }
        }

        $(#[$set_doc])*
        ///
        /// Wire form: the bits as an unsigned integer; an unknown one is refused. In TOML and JSON: the list of
        /// names by ascending number.
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
        pub struct $set($bits);

        impl $set {
            /// None of them.
            pub const EMPTY: Self = Self(0);

            /// All there are.
            pub const ALL: Self = Self(0 $(| $flag::$variant.bit())*);

            /// The bits, as they enter a zero-knowledge statement.
            #[must_use]
            pub const fn bits(self) -> $bits {
                self.0
            }

            /// The set with one more, if the condition holds.
            #[must_use]
            pub const fn with_if(self, flag: $flag, condition: bool) -> Self {
                if condition { Self(self.0 | flag.bit()) } else { self }
            }

            /// Whether it is in the set.
            #[must_use]
            pub const fn contains(self, flag: $flag) -> bool {
                self.0 & flag.bit() != 0
            }

            /// What is in one or the other.
            #[must_use]
            pub const fn union(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// What is in both.
            #[must_use]
            pub const fn intersection(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }

            /// The first that is here and not in the other.
            #[must_use]
            pub fn first_beyond(self, other: Self) -> Option<$flag> {
                Self(self.0 & !other.0).iter().next()
            }

            /// All in the set, by ascending number.
            pub fn iter(self) -> impl Iterator<Item = $flag> {
                $flag::ALL.iter().copied().filter(move |flag| self.contains(*flag))
            }
        }

        impl core::fmt::Display for $flag {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.name())
            }
        }

        impl core::fmt::Debug for $set {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_set().entries(self.iter().map($flag::name)).finish()
            }
        }

        impl<C> minicbor::Encode<C> for $set {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.u64(self.0.into())?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $set {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                match <$bits>::try_from(d.u64()?) {
                    Ok(bits) if bits & !Self::ALL.0 == 0 => Ok(Self(bits)),
                    _ => Err(minicbor::decode::Error::message(concat!("unknown ", $what))),
                }
            }
        }

        impl serde::Serialize for $set {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.iter().map($flag::name))
            }
        }

        impl<'de> serde::Deserialize<'de> for $set {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let names = <Vec<String> as serde::Deserialize>::deserialize(deserializer)?;
                names.iter().try_fold(Self::EMPTY, |set, name| {
                    let flag = $flag::ALL.iter().find(|flag| flag.name() == name);
                    let unknown = || format_args!("no {} is named {name:?}", $what).to_string();
                    let flag = flag.ok_or_else(|| serde::de::Error::custom(unknown()))?;
                    Ok(set.with_if(*flag, true))
                })
            }
        }
    };
}

pub(crate) use flag_set;
