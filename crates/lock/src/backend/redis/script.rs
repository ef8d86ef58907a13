use std::sync::LazyLock;

use trine_redis::Script;

/// A script after what all of them share, and before that what its arguments
/// begin with. Only a new grant needs room; what gives back or goes on must not
/// fail on a server that is full.
macro_rules! script {
    ($make:path, $flags:literal, $first:expr, $file:literal) => {
        LazyLock::new(|| {
            $make(concat!(
                "#!lua",
                $flags,
                "\n",
                $first,
                include_str!("record.lua"),
                include_str!($file)
            ))
        })
    };
    ($make:path, $flags:literal, $file:literal) => {
        script!($make, $flags, "local server, settings = ARGV[1], ARGV[2]\n", $file)
    };
}

pub(super) static PRIME: LazyLock<Script> = script!(Script::new, " flags=allow-oom", "prime.lua");
pub(super) static ACQUIRE: LazyLock<Script> =
    script!(Script::new, "", include_str!("plain_acquire.lua"), "acquire.lua");
pub(super) static RENEW: LazyLock<Script> = script!(Script::new, " flags=allow-oom", "renew.lua");
pub(super) static RELEASE: LazyLock<Script> =
    script!(Script::new, " flags=allow-oom", include_str!("plain_release.lua"), "release.lua");
pub(super) static WITHDRAW: LazyLock<Script> =
    script!(Script::new, " flags=allow-oom", "withdraw.lua");
pub(super) static SWEEP: LazyLock<Script> = script!(Script::new, " flags=allow-oom", "sweep.lua");
pub(super) static HOLDERS: LazyLock<Script> =
    script!(Script::read_only, " flags=no-writes", "holders.lua");
