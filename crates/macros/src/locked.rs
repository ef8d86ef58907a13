mod options;
mod template;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit_mut::{VisitMut, visit_pat_ident_mut, visit_type_mut};
use syn::{Error, FnArg, ItemFn, PatIdent, ReturnType, Signature, Type};

use self::options::{Options, Shape};

/// Expands `#[trine_lock::locked]`. On failure, the errors come with the
/// function's signature, so that what calls it is not wrong too.
pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let place = item.clone().into_iter().next().map_or_else(Span::call_site, |first| first.span());
    let Ok(function) = syn::parse2::<ItemFn>(item) else {
        let expected = "expected an `async fn` with a body";
        return Error::new(place, expected).into_compile_error();
    };
    match locked(options, &function) {
        Ok(expanded) => expanded,
        Err(error) => {
            let errors = error.into_compile_error();
            let stub = stub(&function);
            quote!(#errors #stub)
        }
    }
}

fn locked(options: TokenStream, function: &ItemFn) -> Result<TokenStream, Error> {
    let ItemFn { attrs, vis, sig, block, .. } = function;
    let output = check(sig)?;
    let Options { with, key, shape, setters, sinks, guard } = Options::parse(options)?;
    let key = key.format(&Arguments::of(sig))?;
    let guard = guard.unwrap_or_else(|| hidden("guard"));
    let (locks, taken) = (hidden("locks"), hidden("options"));
    // Where a type is wrong, it is the function's.
    let run = quote_spanned!(output.span()=> run);
    let (closure, _) = annotation(output);
    let (shape, held) = match shape {
        Shape::Write => (quote!(), quote!(Guard)),
        Shape::Read => (quote!(.read()), quote!(ReadGuard)),
        Shape::Permit(of) => (quote!(.permit(#of)), quote!(Permit)),
    };
    Ok(quote! {
        #(#attrs)*
        #vis #sig {
            // A handle of its own, so that the body may use all of `self`.
            let #locks = ::trine_lock::LockService::clone(&#with);
            let #taken = ::trine_lock::LockOptions::default() #(#setters)*;
            ::trine_lock::LockService::with_lock(&#locks, #key)
                .options(#taken)
                .fencing(&[#(#sinks),*])
                #shape
                .#run(async |#guard: &::trine_lock::#held| -> #closure #block)
                .await
        }
    })
}

/// Returns a name that no body can see.
fn hidden(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// Returns what the function answers, if it is one to lock.
fn check(sig: &Signature) -> Result<&Type, Error> {
    if sig.asyncness.is_none() {
        return Err(Error::new(
            sig.fn_token.span(),
            "expected an `async fn`: a lock is waited for",
        ));
    }
    match &sig.output {
        ReturnType::Type(_, output) => Ok(output),
        ReturnType::Default => {
            let expected = "expected `-> Result<T, E>` with `E: From<trine_lock::Error>`: \
                            a key may not be had";
            Err(Error::new(sig.ident.span(), expected))
        }
    }
}

/// Returns the type as a closure may name it, and whether it is the same.
fn annotation(output: &Type) -> (Type, bool) {
    struct Inferred(bool);
    impl VisitMut for Inferred {
        fn visit_type_mut(&mut self, ty: &mut Type) {
            if matches!(ty, Type::ImplTrait(_)) {
                *ty = syn::parse_quote!(_);
                self.0 = true;
            }
            visit_type_mut(self, ty);
        }
    }
    let (mut output, mut inferred) = (output.clone(), Inferred(false));
    inferred.visit_type_mut(&mut output);
    (output, !inferred.0)
}

/// Returns the function without what is wrong; nothing where its type could not
/// be told without the body.
fn stub(function: &ItemFn) -> Option<TokenStream> {
    let ItemFn { attrs, vis, sig, .. } = function;
    if let ReturnType::Type(_, output) = &sig.output
        && let (_, false) = annotation(output)
    {
        return None;
    }
    Some(quote! {
        #(#attrs)*
        #[allow(unused_variables)]
        #vis #sig { ::core::unreachable!() }
    })
}

/// The names that a key can show.
struct Arguments(Vec<Ident>);

impl Arguments {
    fn of(sig: &Signature) -> Self {
        struct Bound(Vec<Ident>);
        impl VisitMut for Bound {
            fn visit_pat_ident_mut(&mut self, pat: &mut PatIdent) {
                self.0.push(pat.ident.clone());
                visit_pat_ident_mut(self, pat);
            }
        }
        let mut bound = Bound(Vec::new());
        for input in &sig.inputs {
            match input {
                FnArg::Receiver(receiver) => {
                    bound.0.push(Ident::new("self", receiver.self_token.span()));
                }
                FnArg::Typed(typed) => bound.visit_pat_mut(&mut typed.pat.as_ref().clone()),
            }
        }
        Self(bound.0)
    }

    /// Returns the argument called `name`, shown at `place`.
    fn find(&self, name: &str, place: Span) -> Result<Ident, Error> {
        let Some(argument) = self.0.iter().find(|argument| *argument == name) else {
            let names: Vec<_> = self.0.iter().map(|name| format!("`{name}`")).collect();
            let expected = match names.as_slice() {
                [] => "this function has none".to_owned(),
                [one] => format!("expected {one}"),
                many => format!("expected one of {}", many.join(", ")),
            };
            return Err(Error::new(place, format!("`{name}` is no argument: {expected}")));
        };
        let mut argument = argument.clone();
        argument.set_span(place.resolved_at(argument.span()));
        Ok(argument)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of the compiler are pinned in `tests/ui`; this one would be
    /// cut there.
    #[test]
    fn a_key_that_is_too_long_is_refused() {
        let function = quote!(
            async fn import(locks: &Locks) -> Result<(), Error> {
                Ok(())
            }
        );
        let expand = |length: usize| {
            let key = "a".repeat(length);
            expand(quote!(with = locks, key = #key), function.clone()).to_string()
        };
        assert!(expand(201).contains("201 bytes beside the arguments: expected a key of 1 to 200"));
        assert!(!expand(200).contains("compile_error"));
    }
}
