use core::fmt;
use core::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! host_calls {
    ($($number:literal $variant:ident $name:literal $params:literal $gas:literal,)*) => {
        /// A function a capsule may import: WASI preview 1 (`wasi_snapshot_preview1`) and ours
        /// (`nonos_1`).
        ///
        /// The number of a call is its bit in a [`HostCallSet`] and never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum HostCall {
            $(#[doc = concat!("`", $name, "`")] $variant = $number,)*
        }

        impl HostCall {
            /// Every call, by ascending number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name it is imported under.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The types of its parameters: `i` for `i32`, `I` for `i64`. Every call answers
            /// with an `i32`, the errno, but `proc_exit`, which does not return.
            #[must_use]
            pub const fn params(self) -> &'static str {
                match self {
                    $(Self::$variant => $params,)*
                }
            }

            /// The gas of one call, before the charge per byte moved and per step of its work.
            #[must_use]
            pub const fn base_gas(self) -> u64 {
                match self {
                    $(Self::$variant => $gas,)*
                }
            }
        }
    };
}

host_calls! {
    0 ArgsGet "args_get" "ii" 200,
    1 ArgsSizesGet "args_sizes_get" "ii" 200,
    2 EnvironGet "environ_get" "ii" 200,
    3 EnvironSizesGet "environ_sizes_get" "ii" 200,
    4 ClockResGet "clock_res_get" "ii" 200,
    5 ClockTimeGet "clock_time_get" "iIi" 200,
    6 FdAdvise "fd_advise" "iIIi" 200,
    7 FdAllocate "fd_allocate" "iII" 200,
    8 FdClose "fd_close" "i" 200,
    9 FdDatasync "fd_datasync" "i" 200,
    10 FdFdstatGet "fd_fdstat_get" "ii" 200,
    11 FdFdstatSetFlags "fd_fdstat_set_flags" "ii" 200,
    12 FdFdstatSetRights "fd_fdstat_set_rights" "iII" 200,
    13 FdFilestatGet "fd_filestat_get" "ii" 200,
    14 FdFilestatSetSize "fd_filestat_set_size" "iI" 200,
    15 FdFilestatSetTimes "fd_filestat_set_times" "iIIi" 200,
    16 FdPread "fd_pread" "iiiIi" 400,
    17 FdPrestatGet "fd_prestat_get" "ii" 200,
    18 FdPrestatDirName "fd_prestat_dir_name" "iii" 200,
    19 FdPwrite "fd_pwrite" "iiiIi" 400,
    20 FdRead "fd_read" "iiii" 400,
    21 FdReaddir "fd_readdir" "iiiIi" 800,
    22 FdRenumber "fd_renumber" "ii" 200,
    23 FdSeek "fd_seek" "iIii" 200,
    24 FdSync "fd_sync" "i" 200,
    25 FdTell "fd_tell" "ii" 200,
    26 FdWrite "fd_write" "iiii" 400,
    27 PathCreateDirectory "path_create_directory" "iii" 800,
    28 PathFilestatGet "path_filestat_get" "iiiii" 800,
    29 PathFilestatSetTimes "path_filestat_set_times" "iiiiIIi" 800,
    30 PathLink "path_link" "iiiiiii" 800,
    31 PathOpen "path_open" "iiiiiIIii" 800,
    32 PathReadlink "path_readlink" "iiiiii" 800,
    33 PathRemoveDirectory "path_remove_directory" "iii" 800,
    34 PathRename "path_rename" "iiiiii" 800,
    35 PathSymlink "path_symlink" "iiiii" 800,
    36 PathUnlinkFile "path_unlink_file" "iii" 800,
    37 PollOneoff "poll_oneoff" "iiii" 400,
    38 ProcExit "proc_exit" "i" 200,
    39 ProcRaise "proc_raise" "i" 200,
    40 SchedYield "sched_yield" "" 200,
    41 RandomGet "random_get" "ii" 400,
    42 SockAccept "sock_accept" "iii" 200,
    43 SockRecv "sock_recv" "iiiiii" 200,
    44 SockSend "sock_send" "iiiii" 200,
    45 SockShutdown "sock_shutdown" "ii" 200,
    46 Sha3512 "sha3_512" "iii" 2_000,
    47 Ed25519Verify "ed25519_verify" "iiii" 200_000,
    48 MeshSend "mesh_send" "iiii" 2_000,
    49 MeshReceive "mesh_receive" "iii" 2_000,
    50 Checkpoint "checkpoint" "" 100_000,
    51 GasLeft "gas_left" "i" 200,
    52 LibraryRead "library_read" "iiii" 400,
    53 LibraryWrite "library_write" "iiii" 400,
}

impl HostCall {
    /// The module of WASI preview 1.
    pub const WASI_MODULE: &'static str = "wasi_snapshot_preview1";

    /// The module of what a node offers beyond WASI.
    pub const NONOS_MODULE: &'static str = "nonos_1";

    /// The module it is imported from.
    #[must_use]
    pub const fn module(self) -> &'static str {
        match self {
            Self::Sha3512
            | Self::Ed25519Verify
            | Self::MeshSend
            | Self::MeshReceive
            | Self::Checkpoint
            | Self::GasLeft
            | Self::LibraryRead
            | Self::LibraryWrite => Self::NONOS_MODULE,
            _ => Self::WASI_MODULE,
        }
    }

    /// Its parameters and result in the letters of [`Function`](crate::Function).
    pub(crate) fn signature(self) -> String {
        let result = if self == Self::ProcExit { "" } else { "i" };
        format!("{}:{result}", self.params())
    }

    /// The call of a number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

impl fmt::Display for HostCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no host call has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such host call")]
pub struct UnknownHostCall;

impl FromStr for HostCall {
    type Err = UnknownHostCall;

    fn from_str(name: &str) -> Result<Self, UnknownHostCall> {
        Self::ALL.iter().copied().find(|call| call.name() == name).ok_or(UnknownHostCall)
    }
}

/// A set of host calls: bit `n` stands for the call with number `n`.
///
/// Wire form: the bits as an unsigned integer; a bit of no known call is refused. In TOML and
/// JSON: the list of names by ascending number.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct HostCallSet(u64);

impl HostCallSet {
    /// No call at all.
    pub const EMPTY: Self = Self(0);

    /// Every call there is.
    pub const ALL: Self = Self(Self::of(HostCall::ALL).0);

    /// What an ordinary command needs: arguments, environment, logical clock, seeded random,
    /// the standard streams and the memory of its libraries. No call of it reaches outside the invocation.
    pub const COMMAND: Self = Self::of(&[
        HostCall::ArgsGet,
        HostCall::ArgsSizesGet,
        HostCall::EnvironGet,
        HostCall::EnvironSizesGet,
        HostCall::ClockResGet,
        HostCall::ClockTimeGet,
        HostCall::FdClose,
        HostCall::FdFdstatGet,
        HostCall::FdFdstatSetFlags,
        HostCall::FdFilestatGet,
        HostCall::FdPrestatGet,
        HostCall::FdPrestatDirName,
        HostCall::FdRead,
        HostCall::FdSeek,
        HostCall::FdTell,
        HostCall::FdWrite,
        HostCall::PollOneoff,
        HostCall::ProcExit,
        HostCall::RandomGet,
        HostCall::SchedYield,
        HostCall::Sha3512,
        HostCall::Ed25519Verify,
        HostCall::Checkpoint,
        HostCall::GasLeft,
        HostCall::LibraryRead,
        HostCall::LibraryWrite,
    ]);

    /// [`Self::COMMAND`] and everything on files and directories. They too reach nothing but the
    /// invocation: the images it mounts and what the run makes of them.
    pub const FILES: Self = Self(
        Self::COMMAND.0
            | Self::of(&[
                HostCall::FdAdvise,
                HostCall::FdAllocate,
                HostCall::FdDatasync,
                HostCall::FdFdstatSetRights,
                HostCall::FdFilestatSetSize,
                HostCall::FdFilestatSetTimes,
                HostCall::FdPread,
                HostCall::FdPwrite,
                HostCall::FdReaddir,
                HostCall::FdRenumber,
                HostCall::FdSync,
                HostCall::PathCreateDirectory,
                HostCall::PathFilestatGet,
                HostCall::PathFilestatSetTimes,
                HostCall::PathLink,
                HostCall::PathOpen,
                HostCall::PathReadlink,
                HostCall::PathRemoveDirectory,
                HostCall::PathRename,
                HostCall::PathSymlink,
                HostCall::PathUnlinkFile,
            ])
            .0,
    );

    /// The set of the listed calls.
    #[must_use]
    pub const fn of(calls: &[HostCall]) -> Self {
        let mut bits = 0;
        let mut rest = calls;
        while let [call, tail @ ..] = rest {
            bits |= call.bit();
            rest = tail;
        }
        Self(bits)
    }

    /// The bits, as they enter a zero-knowledge statement.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the call is in the set.
    #[must_use]
    pub const fn contains(self, call: HostCall) -> bool {
        self.0 & call.bit() != 0
    }

    /// The set with one call more.
    #[must_use]
    pub const fn with(self, call: HostCall) -> Self {
        Self(self.0 | call.bit())
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether every call of this set is in the other.
    #[must_use]
    pub const fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// The calls, by ascending number.
    pub fn iter(self) -> impl Iterator<Item = HostCall> {
        HostCall::ALL.iter().copied().filter(move |call| self.contains(*call))
    }
}

impl fmt::Debug for HostCallSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(HostCall::name)).finish()
    }
}

impl FromIterator<HostCall> for HostCallSet {
    fn from_iter<I: IntoIterator<Item = HostCall>>(calls: I) -> Self {
        calls.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl<C> Encode<C> for HostCallSet {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u64(self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for HostCallSet {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let set = Self(d.u64()?);
        if set.is_subset(Self::ALL) {
            Ok(set)
        } else {
            Err(minicbor::decode::Error::message("unknown host call"))
        }
    }
}

impl Serialize for HostCallSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(HostCall::name))
    }
}

impl<'de> Deserialize<'de> for HostCallSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        names
            .iter()
            .map(|name| {
                name.parse::<HostCall>()
                    .map_err(|_| serde::de::Error::custom(format_args!("no host call is named {name:?}")))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions() {
        for (position, call) in HostCall::ALL.iter().enumerate() {
            assert_eq!(usize::from(*call as u8), position, "{call}");
            assert_eq!(HostCall::from_number(*call as u8), Some(*call));
            assert_eq!(call.name().parse(), Ok(*call));
        }
        assert_eq!(HostCall::from_number(54), None);
    }

    #[test]
    fn an_unknown_bit_does_not_decode() {
        let bytes = minicbor::to_vec(1u64 << 54).unwrap();
        assert!(minicbor::decode::<HostCallSet>(&bytes).is_err());
        let bytes = minicbor::to_vec(HostCallSet::COMMAND).unwrap();
        assert_eq!(minicbor::decode::<HostCallSet>(&bytes).unwrap(), HostCallSet::COMMAND);
    }
}
