use std::time::Duration;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Lit, LitStr, Meta, MetaNameValue, Token};

use super::template::Template;
use crate::time;

/// `trine_lock::LockOptions::MIN_TTL`, and the longest `max_ttl` that a
/// configuration may have: the expansion cannot ask for them.
const MIN_TTL: Duration = Duration::from_millis(100);
const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// `trine_lock::LockOptions::MAX_TEXT`.
const MAX_TEXT: usize = 128;

const KNOWN: &str = "expected `with`, `key`, `read`, `permits`, `ttl`, `wait`, `at_least`, \
                     `at_most`, `owner`, `label`, `fencing` or `guard`";

/// What the attribute says.
pub(super) struct Options {
    pub(super) with: Expr,
    pub(super) key: Template,
    pub(super) shape: Shape,
    /// Calls on `LockOptions`.
    pub(super) setters: Vec<TokenStream>,
    pub(super) sinks: Vec<Expr>,
    pub(super) guard: Option<Ident>,
}

/// What is left to others, and so which guard it is.
pub(super) enum Shape {
    Write,
    Read,
    Permit(TokenStream),
}

impl Options {
    pub(super) fn parse(tokens: TokenStream) -> Result<Self, Error> {
        let given = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens)?;
        let (mut shape, mut shapes) = (Shape::Write, 0);
        let (mut with, mut key, mut guard) = (None, None, None);
        let (mut setters, mut sinks, mut seen) = (Vec::new(), Vec::new(), Vec::<String>::new());
        let mut bounds = Bounds::default();
        for option in given {
            let path = option.path().clone();
            let name = path.get_ident().map(ToString::to_string).unwrap_or_default();
            let value = match option {
                Meta::NameValue(MetaNameValue { value, .. }) => Some(value),
                _ => None,
            };
            match (name.as_str(), value) {
                ("read", None) => {
                    shapes += 1;
                    shape = Shape::Read;
                }
                ("permits", Some(value)) => {
                    shapes += 1;
                    shape = Shape::Permit(permits(&value)?);
                }
                ("with", Some(value)) => with = Some(value),
                ("key", Some(value)) => key = Some(Template::parse(text(&value)?)?),
                ("ttl" | "wait" | "at_least" | "at_most", Some(value)) => {
                    let time = bounds.read(&name, &value)?;
                    setters.push(setter(&name, &time));
                }
                ("owner" | "label", Some(value)) => {
                    check_text(&value)?;
                    setters.push(setter(&name, &value));
                }
                ("fencing", Some(value)) => sinks = list(value)?,
                ("guard", Some(value)) => guard = Some(identifier(&value)?),
                _ => return Err(Error::new(path.span(), expected_form(&name))),
            }
            if seen.contains(&name) {
                return Err(Error::new(path.span(), format!("`{name}` is given twice")));
            }
            seen.push(name);
            if shapes > 1 {
                return Err(Error::new(path.span(), "expected either `read` or `permits`"));
            }
            if matches!(shape, Shape::Read) && !sinks.is_empty() {
                let expected = "expected no `fencing` with `read`: readers have no fence";
                return Err(Error::new(path.span(), expected));
            }
        }
        let missing = |expected| Error::new(Span::call_site(), format!("expected {expected}"));
        Ok(Self {
            with: with.ok_or_else(|| missing("`with`, the locks, such as `with = self.locks`"))?,
            key: key.ok_or_else(|| missing("`key`, such as `key = \"order:{id}\"`"))?,
            shape,
            setters,
            sinks,
            guard,
        })
    }
}

/// Says how an option is written that is written in no such way.
fn expected_form(name: &str) -> String {
    match name {
        "read" => "expected `read` alone".to_owned(),
        "with" | "key" | "permits" | "ttl" | "wait" | "at_least" | "at_most" | "owner"
        | "label" | "fencing" | "guard" => format!("expected a value: `{name} = …`"),
        _ => format!("unknown option: {KNOWN}"),
    }
}

/// Reads a number, or an expression of type `NonZeroU32`.
fn permits(value: &Expr) -> Result<TokenStream, Error> {
    let Some(literal) = literal(value) else { return Ok(quote!(#value)) };
    let number = match literal {
        Lit::Int(number) => number.base10_parse::<u32>().ok().filter(|number| *number > 0),
        _ => None,
    };
    let number = number.ok_or_else(|| {
        Error::new(value.span(), "expected a number of permits from 1, such as `permits = 10`")
    })?;
    Ok(quote!(::core::num::NonZeroU32::MIN.saturating_add(#number - 1)))
}

/// Returns the call that sets an option.
fn setter(name: &str, value: &(impl quote::ToTokens + Spanned)) -> TokenStream {
    let method = Ident::new(&format!("with_{name}"), value.span().resolved_at(Span::mixed_site()));
    quote!(.#method(#value))
}

fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        _ => None,
    }
}

fn text(value: &Expr) -> Result<&LitStr, Error> {
    match literal(value) {
        Some(Lit::Str(text)) => Ok(text),
        _ => Err(Error::new(value.span(), "expected a text, such as \"order:{id}\"")),
    }
}

fn list(value: Expr) -> Result<Vec<Expr>, Error> {
    match value {
        Expr::Array(list) => Ok(list.elems.into_iter().collect()),
        other => Err(Error::new(other.span(), "expected a list, such as `[&self.orders]`")),
    }
}

fn identifier(value: &Expr) -> Result<Ident, Error> {
    let name = match value {
        Expr::Path(path) => path.path.get_ident(),
        _ => None,
    };
    name.cloned().ok_or_else(|| Error::new(value.span(), "expected a name, such as `guard = lock`"))
}

/// Texts are checked as far as they are known here.
fn check_text(value: &Expr) -> Result<(), Error> {
    let Some(literal) = literal(value) else { return Ok(()) };
    let expected = format!("expected a text of 1 to {MAX_TEXT} bytes without control characters");
    let Lit::Str(text) = literal else { return Err(Error::new(value.span(), expected)) };
    let text = text.value();
    if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(Error::new(value.span(), expected));
    }
    Ok(())
}

/// The times that were read so far, as far as they are known here.
#[derive(Default)]
struct Bounds {
    at_least: Option<Duration>,
    at_most: Option<Duration>,
}

impl Bounds {
    /// Reads a time: a text with a unit, or an expression of type `Duration`.
    fn read(&mut self, name: &str, value: &Expr) -> Result<TokenStream, Error> {
        let place = value.span();
        let Some(literal) = literal(value) else { return Ok(quote!(#value)) };
        let expected = "expected a time with a unit, such as \"500ms\", \"60s\" or \"5m\"; \
                        units are ms, s, m, h, d";
        let time = match literal {
            Lit::Str(text) => time::parse(&text.value(), &time::UNITS),
            _ => None,
        };
        let time = time.ok_or_else(|| Error::new(place, expected))?;
        self.check(name, time).map_err(|problem| Error::new(place, problem))?;
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Ok(quote_spanned!(place=> ::core::time::Duration::from_millis(#millis)))
    }

    fn check(&mut self, name: &str, time: Duration) -> Result<(), String> {
        let bounds = match name {
            "ttl" => MIN_TTL..=MAX_TTL,
            "at_least" => Duration::ZERO..=MAX_TTL,
            "at_most" => MIN_TTL..=Duration::MAX,
            _ => Duration::ZERO..=Duration::MAX,
        };
        if !bounds.contains(&time) {
            let is_short = time < *bounds.start();
            let (word, bound) = if is_short { ("least", "100ms") } else { ("most", "1d") };
            return Err(format!("expected a time of at {word} {bound}"));
        }
        match name {
            "at_least" => self.at_least = Some(time),
            "at_most" => self.at_most = Some(time),
            _ => {}
        }
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) if least > most => {
                Err("expected `at_least` to be no more than `at_most`".to_owned())
            }
            _ => Ok(()),
        }
    }
}
