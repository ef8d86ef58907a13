use std::sync::LazyLock;

use trine_redis::Script;

/// A script after what all of them share. Only a new grant needs room; what
/// gives back or goes on must not fail on a server that is full.
macro_rules! script {
    ($make:path, $flags:literal, $file:literal) => {
        LazyLock::new(|| {
            $make(concat!("#!lua", $flags, "\n", include_str!("record.lua"), include_str!($file)))
        })
    };
}

pub(super) static PRIME: LazyLock<Script> = script!(Script::new, " flags=allow-oom", "prime.lua");
pub(super) static ACQUIRE: LazyLock<Script> = script!(Script::new, "", "acquire.lua");
pub(super) static RENEW: LazyLock<Script> = script!(Script::new, " flags=allow-oom", "renew.lua");
pub(super) static RELEASE: LazyLock<Script> =
    script!(Script::new, " flags=allow-oom", "release.lua");
pub(super) static WITHDRAW: LazyLock<Script> =
    script!(Script::new, " flags=allow-oom", "withdraw.lua");
pub(super) static SWEEP: LazyLock<Script> = script!(Script::new, " flags=allow-oom", "sweep.lua");
pub(super) static HOLDERS: LazyLock<Script> =
    script!(Script::read_only, " flags=no-writes", "holders.lua");
