use std::fmt;
use std::sync::Arc;

use trine_core::{ErrorKind, Fault};

use crate::slot::hash_tag;

/// What all keys of one instance of a service begin with: no two applications
/// and no two services share a key by accident.
///
/// # Example
///
/// ```
/// use trine_redis::Namespace;
///
/// let namespace = Namespace::new("shop:prod", "cache.default")?;
/// let key = namespace.key("user:1")?;
/// assert_eq!(key, "shop:prod:cache.default:user:1");
/// assert_eq!(namespace.strip(&key), Some("user:1"));
/// assert_eq!(
///     namespace.mark(&key, "order:7"),
///     "shop:prod:fence:{shop:prod:cache.default:user:1}:cache.default/order:7",
/// );
/// # Ok::<(), trine_redis::InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// `app:instance:`.
    prefix: Arc<str>,
    app: usize,
}

/// What stands in the place of an instance in the keys of fence marks.
const FENCE: &str = "fence";

impl Namespace {
    /// Longest part of a key that is the caller's, in bytes.
    pub const MAX_KEY: usize = 512;
    /// Longest name of an application or an instance, in bytes.
    pub const MAX_NAME: usize = 128;

    /// Returns the namespace of `instance`, such as `"cache.default"`, in the
    /// application `app`, such as `"shop:prod"`.
    ///
    /// None is inside another: the point tells where the instance is.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` unless both are 1 to 128 letters, digits, `-`, `_`
    /// and `.`: `instance` with at least one `.`, `app` with single `:` between
    /// them and no `.` after the first `:`.
    pub fn new(app: &str, instance: &str) -> Result<Self, InvalidKey> {
        check_app(app)?;
        let has_point = instance.contains('.');
        if !(is_name(instance) && has_point && instance.len() <= Self::MAX_NAME) {
            return Err(InvalidKey(
                "an instance is 1 to 128 letters, digits, `-`, `_` and `.`, with at least one `.`",
            ));
        }
        Ok(Self { prefix: format!("{app}:{instance}:").into(), app: app.len() })
    }

    /// Returns the application.
    #[must_use]
    pub fn app(&self) -> &str {
        self.prefix.split_at(self.app).0
    }

    /// Returns the instance.
    #[must_use]
    pub fn instance(&self) -> &str {
        let rest = self.prefix.split_at(self.app).1;
        rest.trim_matches(':')
    }

    /// Returns what every key begins with, for [`scan`](crate::RedisPool::scan).
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the key of the caller's `part`.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if it is empty or longer than
    /// [`MAX_KEY`](Self::MAX_KEY) bytes, or if it has braces other than one
    /// hash tag with something in it.
    pub fn key(&self, part: &str) -> Result<String, InvalidKey> {
        if part.is_empty() {
            return Err(InvalidKey("it is empty"));
        }
        if part.len() > Self::MAX_KEY {
            return Err(InvalidKey("it is longer than 512 bytes"));
        }
        check_braces(part)?;
        Ok(format!("{}{part}", self.prefix))
    }

    /// Returns the caller's part of `key`; `None` for a key of somebody else.
    #[must_use]
    pub fn strip<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&*self.prefix)
    }

    /// Returns the key of the mark that guards `key`, one of this namespace,
    /// under `fence_key`: in the slot of `key`, and outside what a scan of this
    /// namespace finds.
    #[must_use]
    pub fn mark(&self, key: &str, fence_key: &str) -> String {
        let tag = String::from_utf8_lossy(hash_tag(key.as_bytes()));
        format!("{}:{FENCE}:{{{tag}}}:{}/{fence_key}", self.app(), self.instance())
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({})", self.prefix)
    }
}

pub(crate) fn check_app(app: &str) -> Result<(), InvalidKey> {
    let has_late_point = app.split(':').skip(1).any(|part| part.contains('.'));
    if app.len() <= Namespace::MAX_NAME && app.split(':').all(is_name) && !has_late_point {
        return Ok(());
    }
    Err(InvalidKey(
        "a namespace is 1 to 128 letters, digits, `-`, `_` and `.`, with single `:` between them \
         and no `.` after the first `:`",
    ))
}

fn is_name(text: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.chars().all(is_fine)
}

fn check_braces(part: &str) -> Result<(), InvalidKey> {
    const STRAY: InvalidKey =
        InvalidKey("it has braces other than one hash tag with something in it");
    let Some((before, rest)) = part.split_once('{') else {
        return if part.contains('}') { Err(STRAY) } else { Ok(()) };
    };
    match rest.split_once('}') {
        Some((tag, after)) if !tag.is_empty() => {
            let has_more = [before, tag, after].iter().any(|text| text.contains(['{', '}']));
            if has_more { Err(STRAY) } else { Ok(()) }
        }
        _ => Err(STRAY),
    }
}

/// A key or a namespace that breaks a rule. The key itself is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid key: {0}")]
pub struct InvalidKey(&'static str);

impl Fault for InvalidKey {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::slot::slot;

    fn namespace() -> Namespace {
        Namespace::new("shop:prod", "cache.default").unwrap()
    }

    #[test]
    fn names_are_checked() {
        for app in ["", ":", "a:", ":a", "a::b", "a b", "a{b}", "a*", &"a".repeat(129)] {
            assert!(Namespace::new(app, "cache.default").is_err(), "{app}");
        }
        for instance in ["", "a:b", "fence", "{a}", "a*", &format!("a.{}", "a".repeat(127))] {
            assert!(Namespace::new("shop", instance).is_err(), "{instance}");
        }
        // `shop` with the one would be around `shop:prod`, with all its instances.
        assert!(Namespace::new("shop", "prod").is_err());
        assert!(Namespace::new("shop:cache.default", "a.b").is_err());
        assert!(Namespace::new("shop.example:prod", "cache.default").is_ok());
        assert_eq!((namespace().app(), namespace().instance()), ("shop:prod", "cache.default"));
    }

    #[test]
    fn keys_have_one_tag_at_most_and_a_length() {
        let long = "x".repeat(512);
        for part in ["a", "{a}", "a{b}c", "a:b", &*long] {
            assert!(namespace().key(part).is_ok(), "{part}");
        }
        let too_long = "x".repeat(513);
        for part in
            ["", "{", "}", "{}", "a{}b", "a{b", "a}b", "{a}{b}", "{{a}}", "}{a}", &*too_long]
        {
            assert!(namespace().key(part).is_err(), "{part}");
        }
    }

    proptest! {
        #[test]
        fn a_mark_is_in_the_slot_of_its_key_and_outside_its_namespace(
            part in "[a-z:{}\u{e9}*?]{1,40}",
            fence in ".{0,40}",
        ) {
            if let Ok(key) = namespace().key(&part) {
                let mark = namespace().mark(&key, &fence);
                prop_assert_eq!(slot(mark.as_bytes()), slot(key.as_bytes()));
                prop_assert_eq!(namespace().strip(&mark), None);
                prop_assert_eq!(namespace().strip(&key), Some(&*part));
            }
        }

        #[test]
        fn no_namespace_is_inside_another(
            apps in prop::array::uniform2("[a.]{1,2}(:[a.]{1,2}){0,2}"),
            instances in prop::array::uniform2("[a.]{1,2}"),
        ) {
            let [one, other] = [0, 1].map(|n: usize| Namespace::new(&apps[n], &instances[n]));
            if let (Ok(one), Ok(other)) = (one, other) {
                prop_assert!(one == other || !one.prefix().starts_with(other.prefix()), "{one:?} {other:?}");
            }
        }

        #[test]
        fn marks_of_two_keys_differ(a in "[ab{}:/]{1,6}", b in "[ab{}:/]{1,6}", f in "[ab/]{1,4}") {
            let (a, b) = (namespace().key(&a), namespace().key(&b));
            if let (Ok(a), Ok(b)) = (a, b)
                && hash_tag(a.as_bytes()) != hash_tag(b.as_bytes())
            {
                prop_assert_ne!(namespace().mark(&a, &f), namespace().mark(&b, &f));
            }
        }
    }
}
