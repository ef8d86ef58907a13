use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, ItemFn, Lit, MetaNameValue, Token};

use crate::time;

/// A test of hours is none.
const UNITS: &[(&str, u64)] = time::UNITS.split_at(3).0;

/// Expands `#[trine_testkit::test]`.
///
/// # Errors
///
/// Fails with a message at the place of the mistake: an unknown, repeated or
/// contradictory option, or a function that cannot be a test.
pub(crate) fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    let options = Options::parse(options)?;
    let function: ItemFn = syn::parse2(item)?;
    check(&function)?;

    let ItemFn { attrs, vis, sig, block, .. } = &function;
    let name = &sig.ident;
    let output = &sig.output;
    let inputs = &sig.inputs;
    let pass_rng = (!inputs.is_empty()).then(|| quote!(__rng));
    let millis = u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX);
    let threads = options.threads;
    let start_paused = options.start_paused;
    Ok(quote! {
        #(#attrs)*
        #[::core::prelude::v1::test]
        #vis fn #name() {
            async fn __body(#inputs) #output #block
            ::trine_testkit::__private::run(
                ::trine_testkit::__private::Settings {
                    name: ::core::concat!(
                        ::core::module_path!(), "::", ::core::stringify!(#name)
                    ),
                    timeout: ::core::time::Duration::from_millis(#millis),
                    threads: #threads,
                    start_paused: #start_paused,
                },
                |__rng| __body(#pass_rng),
            );
        }
    })
}

fn check(function: &ItemFn) -> Result<(), Error> {
    let sig = &function.sig;
    if sig.asyncness.is_none() {
        return Err(Error::new(sig.fn_token.span(), "a trine_testkit test is an `async fn`"));
    }
    if !sig.generics.params.is_empty() {
        return Err(Error::new(sig.generics.span(), "a test cannot be generic"));
    }
    if let Some(second) = sig.inputs.iter().nth(1) {
        return Err(Error::new(second.span(), "a test takes nothing, or one `trine_testkit::Rng`"));
    }
    Ok(())
}

#[derive(Debug)]
struct Options {
    timeout: Duration,
    threads: usize,
    start_paused: bool,
}

impl Options {
    fn parse(tokens: TokenStream) -> Result<Self, Error> {
        let given = Punctuated::<MetaNameValue, Token![,]>::parse_terminated.parse2(tokens)?;
        let mut timeout = None;
        let mut threads = None;
        let mut start_paused = None;
        for option in &given {
            let name = option.path.get_ident().map(ToString::to_string).unwrap_or_default();
            let repeated = match name.as_str() {
                "timeout" => timeout.replace(read_timeout(&option.value)?).is_some(),
                "threads" => threads.replace(read_threads(&option.value)?).is_some(),
                "start_paused" => start_paused.replace(read_bool(&option.value)?).is_some(),
                _ => {
                    return Err(Error::new(
                        option.path.span(),
                        "unknown option: expected `timeout`, `threads` or `start_paused`",
                    ));
                }
            };
            if repeated {
                return Err(Error::new(option.path.span(), format!("`{name}` is given twice")));
            }
            if start_paused == Some(true) && threads.is_some() {
                return Err(Error::new(
                    option.path.span(),
                    "`start_paused` runs on one thread: leave `threads` out",
                ));
            }
        }
        Ok(Self {
            timeout: timeout.unwrap_or(Duration::from_secs(60)),
            threads: threads.unwrap_or(2),
            start_paused: start_paused.unwrap_or(false),
        })
    }
}

fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        _ => None,
    }
}

fn read_timeout(value: &Expr) -> Result<Duration, Error> {
    let expected = "expected a time above zero with a unit, such as \"500ms\", \"120s\" or \"5m\"";
    let invalid = || Error::new(value.span(), expected);
    let Some(Lit::Str(text)) = literal(value) else {
        return Err(invalid());
    };
    match time::parse(&text.value(), UNITS) {
        Some(time) if !time.is_zero() => Ok(time),
        _ => Err(invalid()),
    }
}

fn read_threads(value: &Expr) -> Result<usize, Error> {
    let invalid = || Error::new(value.span(), "expected a number of threads from 1 to 64");
    let Some(Lit::Int(number)) = literal(value) else {
        return Err(invalid());
    };
    match number.base10_parse() {
        Ok(threads @ 1..=64) => Ok(threads),
        _ => Err(invalid()),
    }
}

fn read_bool(value: &Expr) -> Result<bool, Error> {
    match literal(value) {
        Some(Lit::Bool(flag)) => Ok(flag.value),
        _ => Err(Error::new(value.span(), "expected `true` or `false`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(options: TokenStream, item: TokenStream) -> String {
        expand(options, item).unwrap_err().to_string()
    }

    fn good() -> TokenStream {
        quote!(
            async fn good() {}
        )
    }

    #[test]
    fn a_plain_function_is_refused() {
        let said = complaint(
            quote!(),
            quote!(
                fn plain() {}
            ),
        );
        assert_eq!(said, "a trine_testkit test is an `async fn`");
    }

    #[test]
    fn generics_and_further_arguments_are_refused() {
        let said = complaint(
            quote!(),
            quote!(
                async fn generic<T>() {}
            ),
        );
        assert_eq!(said, "a test cannot be generic");
        let said = complaint(
            quote!(),
            quote!(
                async fn two(rng: Rng, port: u16) {}
            ),
        );
        assert_eq!(said, "a test takes nothing, or one `trine_testkit::Rng`");
    }

    #[test]
    fn unknown_repeated_and_contradictory_options_are_refused() {
        let unknown = complaint(quote!(timout = "5s"), good());
        assert_eq!(unknown, "unknown option: expected `timeout`, `threads` or `start_paused`");
        let repeated = complaint(quote!(threads = 1, threads = 2), good());
        assert_eq!(repeated, "`threads` is given twice");
        for contradictory in
            [quote!(start_paused = true, threads = 2), quote!(threads = 2, start_paused = true)]
        {
            let said = complaint(contradictory, good());
            assert_eq!(said, "`start_paused` runs on one thread: leave `threads` out");
        }
    }

    #[test]
    fn times_need_a_unit_and_more_than_zero() {
        let texts = ["5", "0s", "s", "", "-1s", "1h", "1.5s", "99999999999999999999s"];
        for text in texts {
            let said = complaint(quote!(timeout = #text), good());
            assert!(said.starts_with("expected a time above zero"), "{text}: {said}");
        }
        assert!(complaint(quote!(timeout = 5), good()).starts_with("expected a time"));
        assert_eq!(Options::parse(quote!(timeout = "2m")).unwrap().timeout.as_secs(), 120);
        assert_eq!(Options::parse(quote!(timeout = "250ms")).unwrap().timeout.as_millis(), 250);
    }

    #[test]
    fn thread_counts_are_bounded() {
        for threads in [quote!(0), quote!(65), quote!("2"), quote!(-1)] {
            let said = complaint(quote!(threads = #threads), good());
            assert_eq!(said, "expected a number of threads from 1 to 64");
        }
    }

    #[test]
    fn defaults_are_two_threads_and_a_minute() {
        let options = Options::parse(quote!()).unwrap();
        assert_eq!(options.timeout, Duration::from_secs(60));
        assert_eq!(options.threads, 2);
        assert!(!options.start_paused);
    }

    #[test]
    fn other_attributes_are_kept() {
        let expanded = expand(
            quote!(),
            quote!(
                #[ignore = "slow"]
                async fn kept() {}
            ),
        );
        assert!(expanded.unwrap().to_string().contains("ignore = \"slow\""));
    }
}
