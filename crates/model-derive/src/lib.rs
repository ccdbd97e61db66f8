//! `#[derive(Entity)]`: from a struct with documented fields to the table that plain code reads.
//!
//! In: the struct of one configuration entity. Out: its `Table`, and reading and writing a field by its place. The macro
//! knows no type: what a field's type means is said by `model::define::Attribute`. Elsewhere: everything that reads tables.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, Field, Fields, Ident, Lit, LitStr, Meta, Token, parenthesized,
};

/// Makes a struct a configuration entity.
///
/// On the struct, `#[entity(…)]`:
/// - `name = "Carrier"`: its name in documents, when the struct's will not do,
/// - `path = "carriers"`: its REST collection (none: it has no endpoint of its own),
/// - `access = ACCESS`: a const of `&[Access]`, what each level may do with it,
/// - `computed = COMPUTED`: a const of `&[Computed]`, what is shown and is no field,
/// - `unique(name, brand)`: these fields together occur once; may be repeated,
/// - `records`: append-heavy; kept in a table of its own and not in the snapshot,
/// - `hidden`: the platform's own; neither exported nor imported,
/// - `rules`: there is an `impl Rules`; otherwise an empty one is made,
/// - `inner("x")`: fields of imported rows that mean nothing here.
///
/// On a field, `#[field(…)]`: `name = "shownName"` (else the Rust name in camel case), `max = N` (characters),
/// `min = N`, `high = N` (least and greatest number), `scale = N` (decimal places), `default = EXPR`,
/// `platform = "ldw"` and so on for `brand`, `client` and `user` (letters: `l` in lists, `d` in items, `w` may be written,
/// `c` may be written at creation only, `u` by changes only), `delete = "cascade" | "clear"` (what the end of the row it
/// refers to does to this one; else it forbids that end), `index` (rows are looked up by it), `masked` (never shown), `now` (a new row has the time of its making here), `invoiced` (null for
/// clients that may not see their invoices), `folded` (what must be unique is so whatever its letters' case), `needed` (no row is saved with null here, although
/// stored rows may have it), `brief("part")` (of a group: only these parts are in lists, and in all answers of a level
/// whose letters have a `b`).
#[proc_macro_derive(Entity, attributes(entity, field))]
pub fn entity(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

#[derive(Default)]
struct EntityWords {
    name: Option<LitStr>,
    path: Option<LitStr>,
    access: Option<Expr>,
    computed: Option<Expr>,
    unique: Vec<Vec<Ident>>,
    records: bool,
    hidden: bool,
    rules: bool,
    inner: Vec<LitStr>,
}

#[derive(Default)]
struct FieldWords {
    name: Option<String>,
    max: Option<Expr>,
    min: Option<Expr>,
    high: Option<Expr>,
    scale: Option<Expr>,
    default: Option<Expr>,
    views: [String; 4],
    delete: Option<String>,
    index: bool,
    masked: bool,
    now: bool,
    invoiced: bool,
    folded: bool,
    needed: bool,
    brief: Vec<LitStr>,
}

const LEVELS: [&str; 4] = ["platform", "brand", "client", "user"];

fn expand(input: &DeriveInput) -> Result<Tokens, Error> {
    let words = entity_words(&input.attrs)?;
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(input, "an entity is a struct"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(input, "an entity has named fields"));
    };
    let entity = &input.ident;
    let entity_name = words.name.as_ref().map_or_else(|| entity.to_string(), LitStr::value);
    let docs = docs(&input.attrs);
    let (mut rows, mut gets, mut sets, mut defaults) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut names = Vec::new();
    for (place, field) in fields.named.iter().enumerate() {
        let ident = field.ident.as_ref().expect("named fields have names");
        let ty = &field.ty;
        let words = field_words(field)?;
        let default = words.default.as_ref();
        defaults.push(match default {
            Some(expr) => quote!(#ident: ::core::convert::Into::into(#expr)),
            None => quote!(#ident: ::core::default::Default::default()),
        });
        rows.push(field_row(field, &words, ident)?);
        gets.push(quote!(#place => crate::define::Attribute::value(&self.#ident),));
        sets.push(quote!(#place => self.#ident = <#ty as crate::define::Attribute>::read(json, reading, &FIELDS[#place])?,));
        names.push(ident.clone());
    }
    if names.first().is_none_or(|first| first != "id") {
        return Err(Error::new_spanned(input, "the first field of an entity is its id"));
    }
    let unique = unique_sets(&words.unique, &names)?;
    let path = words.path.map_or_else(|| quote!(""), |path| quote!(#path));
    let access = words.access.map_or_else(|| quote!(&[]), |access| quote!(#access));
    let computed = words.computed.map_or_else(|| quote!(&[]), |computed| quote!(#computed));
    let (records, hidden, inner) = (words.records, words.hidden, &words.inner);
    let rules = (!words.rules).then(|| quote!(impl crate::rules::Rules for #entity {}));
    Ok(quote! {
        const _: () = {
            static FIELDS: &[crate::define::Field] = &[#(#rows),*];
            static TABLE: crate::define::Table = crate::define::Table {
                name: #entity_name,
                docs: #docs,
                index: <#entity as crate::entities::Numbered>::INDEX,
                path: #path,
                fields: FIELDS,
                unique: &[#(#unique),*],
                access: #access,
                computed: #computed,
                records: #records,
                hidden: #hidden,
                inner: &[#(#inner),*],
                make: || ::std::boxed::Box::new(<#entity as ::core::default::Default>::default()),
            };
            impl ::core::default::Default for #entity {
                fn default() -> Self {
                    Self { #(#defaults),* }
                }
            }
            impl crate::define::Entity for #entity {
                fn definition() -> &'static crate::define::Table {
                    &TABLE
                }
            }
            impl crate::define::Record for #entity {
                fn table(&self) -> &'static crate::define::Table {
                    &TABLE
                }
                fn id(&self) -> u32 {
                    self.id.get()
                }
                fn set_id(&mut self, id: u32) {
                    self.id = crate::id::Id::new(id);
                }
                fn get(&self, place: usize) -> crate::define::Value<'_> {
                    match place {
                        #(#gets)*
                        _ => crate::define::Value::Null,
                    }
                }
                fn set(
                    &mut self,
                    place: usize,
                    json: &::serde_json::Value,
                    reading: &crate::define::Reading<'_>,
                ) -> ::core::result::Result<(), crate::define::Fault> {
                    match place {
                        #(#sets)*
                        _ => return Err(crate::define::Fault::unknown()),
                    }
                    Ok(())
                }
                fn copy(&self) -> ::std::boxed::Box<dyn crate::define::Record> {
                    ::std::boxed::Box::new(self.clone())
                }
                fn rules(&mut self) -> &mut dyn crate::rules::DynRules {
                    self
                }
                fn rules_ref(&self) -> &dyn crate::rules::DynRules {
                    self
                }
                fn any(&self) -> &dyn ::core::any::Any {
                    self
                }
                fn any_mut(&mut self) -> &mut dyn ::core::any::Any {
                    self
                }
            }
            #rules
        };
    })
}

fn field_row(field: &Field, words: &FieldWords, ident: &Ident) -> Result<Tokens, Error> {
    let ty = &field.ty;
    let name = words.name.clone().unwrap_or_else(|| camel(&ident.to_string()));
    let docs = docs(&field.attrs);
    let kind = if ident == "id" {
        quote!(crate::define::Kind::Id)
    } else {
        quote!(<#ty as crate::define::Attribute>::KIND)
    };
    let max = words.max.as_ref().map_or_else(|| quote!(0), |max| quote!(#max));
    let min = words
        .min
        .as_ref()
        .map_or_else(|| quote!(::core::option::Option::None), |e| quote!(::core::option::Option::Some(#e)));
    let high = words
        .high
        .as_ref()
        .map_or_else(|| quote!(::core::option::Option::None), |e| quote!(::core::option::Option::Some(#e)));
    let scale = words.scale.as_ref().map_or_else(|| quote!(4), |e| quote!(#e));
    let has_default = words.default.is_some() || words.now;
    let views = words.views.iter().map(|letters| {
        let has = |letter: char| letters.contains(letter);
        let (list, detail) = (has('l'), has('d'));
        let (create, change, brief) = (has('w') || has('c'), has('w') || has('u'), has('b'));
        quote!(crate::define::View {
            list: #list,
            detail: #detail,
            changed: #detail,
            created: #detail,
            create: #create,
            change: #change,
            brief: #brief,
        })
    });
    let delete = match words.delete.as_deref() {
        None => quote!(Forbid),
        Some("cascade") => quote!(Cascade),
        Some("clear") => quote!(Clear),
        Some(_) => return Err(Error::new_spanned(field, "delete is \"cascade\" or \"clear\"")),
    };
    let (index, masked, now, invoiced) = (words.index, words.masked, words.now, words.invoiced);
    let (folded, needed) = (words.folded, words.needed);
    let brief = &words.brief;
    Ok(quote! {
        crate::define::Field {
            name: #name,
            docs: #docs,
            kind: #kind,
            nullable: <#ty as crate::define::Attribute>::NULLABLE,
            max: #max,
            min: #min,
            high: #high,
            scale: #scale,
            has_default: #has_default,
            views: [#(#views),*],
            on_delete: crate::define::OnDelete::#delete,
            index: #index,
            masked: #masked,
            now: #now,
            invoiced: #invoiced,
            folded: #folded,
            needed: #needed,
            brief: &[#(#brief),*],
        }
    })
}

fn unique_sets(sets: &[Vec<Ident>], names: &[Ident]) -> Result<Vec<Tokens>, Error> {
    let place = |field: &Ident| {
        names.iter().position(|name| name == field).ok_or_else(|| Error::new_spanned(field, "no such field"))
    };
    sets.iter()
        .map(|set| {
            let places = set.iter().map(place).collect::<Result<Vec<_>, _>>()?;
            Ok(quote!(&[#(#places),*]))
        })
        .collect()
}

fn entity_words(attributes: &[Attribute]) -> Result<EntityWords, Error> {
    let mut words = EntityWords::default();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("entity")) {
        attribute.parse_nested_meta(|meta| {
            let name = meta.path.require_ident()?.to_string();
            match name.as_str() {
                "name" => words.name = Some(meta.value()?.parse()?),
                "path" => words.path = Some(meta.value()?.parse()?),
                "access" => words.access = Some(meta.value()?.parse()?),
                "computed" => words.computed = Some(meta.value()?.parse()?),
                "records" => words.records = true,
                "hidden" => words.hidden = true,
                "rules" => words.rules = true,
                "unique" => words.unique.push(idents(meta.input)?),
                "inner" => words.inner = literals(meta.input)?,
                _ => return Err(meta.error("unknown word")),
            }
            Ok(())
        })?;
    }
    Ok(words)
}

fn field_words(field: &Field) -> Result<FieldWords, Error> {
    let mut words = FieldWords::default();
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("field")) {
        attribute.parse_nested_meta(|meta| {
            let name = meta.path.require_ident()?.to_string();
            if let Some(level) = LEVELS.iter().position(|level| *level == name) {
                words.views[level] = meta.value()?.parse::<LitStr>()?.value();
                return Ok(());
            }
            match name.as_str() {
                "name" => words.name = Some(meta.value()?.parse::<LitStr>()?.value()),
                "max" => words.max = Some(meta.value()?.parse()?),
                "min" => words.min = Some(meta.value()?.parse()?),
                "high" => words.high = Some(meta.value()?.parse()?),
                "scale" => words.scale = Some(meta.value()?.parse()?),
                "default" => words.default = Some(meta.value()?.parse()?),
                "delete" => words.delete = Some(meta.value()?.parse::<LitStr>()?.value()),
                "index" => words.index = true,
                "masked" => words.masked = true,
                "now" => words.now = true,
                "invoiced" => words.invoiced = true,
                "folded" => words.folded = true,
                "needed" => words.needed = true,
                "brief" => words.brief = literals(meta.input)?,
                _ => return Err(meta.error("unknown word")),
            }
            Ok(())
        })?;
    }
    Ok(words)
}

fn idents(input: ParseStream<'_>) -> Result<Vec<Ident>, Error> {
    let content;
    parenthesized!(content in input);
    Ok(Punctuated::<Ident, Token![,]>::parse_terminated(&content)?.into_iter().collect())
}

fn literals(input: ParseStream<'_>) -> Result<Vec<LitStr>, Error> {
    let content;
    parenthesized!(content in input);
    Ok(Punctuated::<LitStr, Token![,]>::parse_terminated(&content)?.into_iter().collect())
}

/// The doc comment as one text.
fn docs(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// `max_calls` to `maxCalls`.
fn camel(snake: &str) -> String {
    let mut out = String::new();
    let mut up = false;
    for letter in snake.trim_start_matches("r#").chars() {
        match letter {
            '_' => up = true,
            letter if up => {
                out.extend(letter.to_uppercase());
                up = false;
            }
            letter => out.push(letter),
        }
    }
    out
}
