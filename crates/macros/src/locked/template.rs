use std::iter::Peekable;
use std::str::Chars;

use proc_macro2::{Literal, Span, TokenStream};
use quote::quote;
use syn::{Error, Index, LitStr};

use super::Arguments;

/// `trine_lock::Key::MAX`: the expansion cannot ask for it.
const MAX_KEY: usize = 200;

/// A key with places for arguments, such as `"order:{user_id}"`.
pub(super) struct Template {
    place: Span,
    parts: Vec<Part>,
}

enum Part {
    Text(String),
    /// An argument and the fields on the way to what is shown of it.
    Value(Vec<String>),
}

impl Template {
    pub(super) fn parse(literal: &LitStr) -> Result<Self, Error> {
        let (text, place) = (literal.value(), literal.span());
        let parts = parts(&text).map_err(|problem| Error::new(place, problem))?;
        let template = Self { place, parts };
        template.check().map_err(|problem| Error::new(place, problem))?;
        Ok(template)
    }

    /// Refuses what is no key whatever the arguments are.
    fn check(&self) -> Result<(), String> {
        if self.parts.is_empty() {
            return Err(format!("expected a key of 1 to {MAX_KEY} bytes"));
        }
        let texts = || self.parts.iter().filter_map(Part::text);
        let length: usize = texts().map(str::len).sum();
        if length > MAX_KEY {
            return Err(format!(
                "{length} bytes beside the arguments: expected a key of 1 to {MAX_KEY}"
            ));
        }
        if texts().flat_map(str::chars).any(|c| c == '#' || c.is_control()) {
            return Err("expected a key without `#` and control characters".to_owned());
        }
        Ok(())
    }

    /// Returns what makes the key.
    pub(super) fn format(&self, arguments: &Arguments) -> Result<TokenStream, Error> {
        let (mut format, mut values) = (String::new(), Vec::new());
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    format.push_str(&text.replace('{', "{{").replace('}', "}}"));
                }
                Part::Value(path) => {
                    format.push_str("{}");
                    values.push(self.value(path, arguments)?);
                }
            }
        }
        let mut format = Literal::string(&format);
        format.set_span(self.place.resolved_at(Span::mixed_site()));
        Ok(quote!(::std::format!(#format #(, #values)*)))
    }

    fn value(&self, path: &[String], arguments: &Arguments) -> Result<TokenStream, Error> {
        let place = self.place;
        let (first, fields) = path.split_first().map_or(("", path), |(first, rest)| (first, rest));
        let argument = arguments.find(first, place)?;
        let fields = fields.iter().map(|field| match field.parse() {
            Ok(index) => {
                let index = Index { index, span: place };
                quote!(.#index)
            }
            Err(_) => {
                let field = syn::Ident::new(field, place);
                quote!(.#field)
            }
        });
        let fields: TokenStream = fields.collect();
        Ok(quote!(&#argument #fields))
    }
}

impl Part {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Value(_) => None,
        }
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let (mut parts, mut literal) = (Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' | '}' if chars.next_if_eq(&c).is_some() => literal.push(c),
            '{' => {
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Value(path(&mut chars)?));
            }
            '}' => return Err("`}` without `{`: expected `}}` for a brace".to_owned()),
            c => literal.push(c),
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

/// Reads up to the brace that closes.
fn path(chars: &mut Peekable<Chars<'_>>) -> Result<Vec<String>, String> {
    let mut text = String::new();
    loop {
        match chars.next() {
            Some('}') => break,
            Some('{') | None => {
                return Err(format!(
                    "`{{{text}` is not closed: expected `}}`, or `{{{{` for a brace"
                ));
            }
            Some(c) => text.push(c),
        }
    }
    if text.contains(':') {
        let (name, _) = text.split_once(':').unwrap_or_default();
        return Err(format!("`{{{text}}}`: expected `{{{name}}}`, arguments have no format here"));
    }
    let path: Vec<_> = text.split('.').map(str::to_owned).collect();
    let is_field = |name: &String| name.parse::<u32>().is_ok() || is_name(name);
    let is_path = path.first().is_some_and(|first| first == "self" || is_name(first))
        && path.iter().skip(1).all(is_field);
    if !is_path {
        return Err(format!(
            "`{{{text}}}`: expected an argument, such as `{{id}}`, `{{self.name}}` or `{{order.0}}`"
        ));
    }
    Ok(path)
}

fn is_name(text: &str) -> bool {
    syn::parse_str::<syn::Ident>(text).is_ok()
}
