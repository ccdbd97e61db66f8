//! The configuration over gRPC: describing entities, lists, and one row at a time.
//!
//! Elsewhere: many changes as one (`apply`), changes as they are made (`watch`).

use super::told::{self, Form};
use super::{Act, Asked, Service, apply, entity, known_access, may, not_made, proof, status, watch, wrong};
use crate::http::{Parameter, Query};
use crate::list;
use crate::routes;
use crate::write::{self, Document};
use futures_util::stream::BoxStream;
use model::define::{Access, Computed, How, Kind, Record, Table};
use model::draft::Draft;
use model::entities::TABLES;
use model::rows::Rows;
use model::scope::Caller;
use proto::v1;
use proto::v1::configuration_server::Configuration;
use serde_json::Value as Json;
use tonic::{Request, Response, Status};

/// Rows on a page when the caller does not say.
const PAGE: u32 = 100;
/// Most rows on a page.
const LARGEST_PAGE: u32 = 1000;
/// Most conditions of a list.
const MOST_FILTERS: usize = 50;
/// Most values of one condition.
const MOST_VALUES: usize = 1000;
/// Most octets of documents on a page: what a client's library takes by itself is 4 MiB.
const LARGEST_ANSWER: usize = 3 * 1024 * 1024;

#[tonic::async_trait]
impl Configuration for Service {
    async fn describe(
        &self,
        request: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeResponse>, Status> {
        let asked = self.begin(&proof(&request))?;
        let names = request.into_inner().entities;
        let caller = asked.caller();
        let tables: Vec<(&'static Table, &'static Access)> = if names.is_empty() {
            let known = |table: &&'static Table| Some((*table, known_access(caller, table)?));
            TABLES.iter().filter_map(known).collect()
        } else {
            names
                .iter()
                .take(TABLES.len())
                .map(|name| entity(caller, name))
                .collect::<Result<_, _>>()
                .map_err(status)?
        };
        let entities = tables.into_iter().map(|(table, access)| described(&asked, table, access)).collect();
        Ok(Response::new(v1::DescribeResponse { entities }))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        let asked = self.begin(&proof(&request))?;
        let request = request.into_inner();
        let (table, access) = asked.entity(&request.entity, Act::List)?;
        let (caller, rows) = (asked.caller(), &asked.rows);
        let whole = request.whole && may(caller, table, access, Act::Get, rows).is_ok();
        let query = query(caller, table, &request)?;
        let page = routes::page_of(&asked.api.live, rows, caller, table, access, &query).await;
        let page = page.map_err(status)?;
        let form = if whole { Form::Whole } else { Form::Brief };
        let mut documents = Vec::with_capacity(page.rows.len());
        let mut octets = 0;
        for row in &page.rows {
            let document = shown(caller, rows, &**row, form);
            octets += document.json.len();
            if octets > LARGEST_ANSWER {
                let why = format!(
                    "page_size: {} rows make more than {LARGEST_ANSWER} octets; ask for fewer",
                    page.rows.len()
                );
                return Err(Status::resource_exhausted(why));
            }
            documents.push(document);
        }
        let total = page.total.unwrap_or(documents.len()) as u64;
        Ok(Response::new(v1::ListResponse { documents, total, revision: rows.revision }))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Document>, Status> {
        let asked = self.begin(&proof(&request))?;
        let request = request.into_inner();
        let (table, _) = asked.entity(&request.entity, Act::Get)?;
        let (caller, rows) = (asked.caller(), &asked.rows);
        let row = routes::row_of(&asked.api.live, rows, caller, table, request.id).await.map_err(status)?;
        Ok(Response::new(shown(caller, rows, &*row, Form::Whole)))
    }

    async fn put(&self, request: Request<v1::PutRequest>) -> Result<Response<v1::Document>, Status> {
        let asked = self.begin(&proof(&request))?;
        let v1::PutRequest { entity, id, json } = request.into_inner();
        let act = if id.is_some() { Act::Change } else { Act::Create };
        let (table, access) = asked.entity(&entity, act)?;
        let caller = asked.caller();
        match id {
            Some(id) => {
                routes::row_of(&asked.api.live, &asked.rows, caller, table, id).await.map_err(status)?;
            }
            None => {
                routes::is_taken_on(&*asked.api.surroundings.outside, table).await.map_err(status)?;
            }
        }
        let document = apply::read(caller, table, id, &json)?;
        let document = Document::hashed(document, &asked.api.tokens, caller, table).await.map_err(status)?;
        let make = |draft: &mut Draft<'_>| match id {
            Some(id) => write::change(draft, table, caller, id, &document).map(|()| id),
            None => {
                apply::unmasked(table, &document)?;
                write::create(draft, table, access, caller, &document)
            }
        };
        let live = &asked.api.live;
        let made = live.change(asked.identity.level(), &asked.identity.who(), make).await;
        let (id, rows) = made.map_err(not_made)?;
        let row = routes::row_of(live, &rows, caller, table, id).await.map_err(status)?;
        Ok(Response::new(shown(caller, &rows, &*row, Form::Whole)))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let asked = self.begin(&proof(&request))?;
        let v1::DeleteRequest { entity, id } = request.into_inner();
        let (table, _) = asked.entity(&entity, Act::Delete)?;
        let caller = asked.caller();
        routes::row_of(&asked.api.live, &asked.rows, caller, table, id).await.map_err(status)?;
        let make = |draft: &mut Draft<'_>| write::delete(draft, table, caller, id);
        let made = asked.api.live.change(asked.identity.level(), &asked.identity.who(), make).await;
        let ((), rows) = made.map_err(not_made)?;
        Ok(Response::new(v1::DeleteResponse { revision: rows.revision }))
    }

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        let asked = self.begin(&proof(&request))?;
        apply::apply(&asked, request.into_inner()).await.map(Response::new)
    }

    type WatchStream = BoxStream<'static, Result<v1::WatchResponse, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let proof = proof(&request);
        watch::begin(self, proof, request.into_inner()).map(Response::new)
    }
}

fn shown(caller: &Caller, rows: &Rows, row: &dyn Record, form: Form) -> v1::Document {
    v1::Document {
        entity: row.table().name.to_owned(),
        id: row.id(),
        json: Json::Object(told::document(caller, rows, row, form)).to_string(),
        revision: rows.revision,
    }
}

/// The request as REST's lists are asked.
fn query(caller: &Caller, table: &'static Table, request: &v1::ListRequest) -> Result<Query, Status> {
    if request.filters.len() > MOST_FILTERS {
        return Err(Status::resource_exhausted(format!("filters: send at most {MOST_FILTERS}")));
    }
    let unknown = |field: &str, name: &str| {
        let names: Vec<&str> =
            table.fields.iter().filter(|field| caller.view(field).list).map(|field| field.name).collect();
        let name: String = name.chars().take(60).collect();
        wrong(field, format!("{name:?} is not in lists of {}; those have {}", table.name, names.join(", ")))
    };
    let mut parameters = Vec::new();
    for filter in &request.filters {
        if !list::is_listed(table, caller, &filter.field) {
            return Err(unknown("filters", &filter.field));
        }
        if filter.values.is_empty() || filter.values.len() > MOST_VALUES {
            return Err(wrong("filters", format!("{}: give 1 to {MOST_VALUES} values", filter.field)));
        }
        const TESTS: &[&str] = &[
            "",
            "exact",
            "partial",
            "start",
            "end",
            "neq",
            "lt",
            "lte",
            "gt",
            "gte",
            "between",
            "before",
            "after",
            "strictly_before",
            "strictly_after",
            "exists",
        ];
        if !TESTS.contains(&filter.test.as_str()) {
            return Err(wrong(
                "filters",
                format!("{}: the test is one of {}", filter.field, TESTS[1..].join(", ")),
            ));
        }
        for value in &filter.values {
            let keys = match (filter.test.as_str(), filter.values.len()) {
                ("", 1) => Vec::new(),
                ("", _) => vec![String::new()],
                (test, 1) => vec![test.to_owned()],
                (test, _) => vec![test.to_owned(), String::new()],
            };
            parameters.push(Parameter { name: filter.field.clone(), keys, value: value.clone() });
        }
    }
    for order in request.order.iter().take(MOST_FILTERS) {
        let (name, way) = order.strip_prefix('-').map_or((order.as_str(), "asc"), |name| (name, "desc"));
        if !list::is_listed(table, caller, name) {
            return Err(unknown("order", name));
        }
        parameters.push(Parameter {
            name: "_order".to_owned(),
            keys: vec![name.to_owned()],
            value: way.to_owned(),
        });
    }
    let size = match request.page_size {
        0 => PAGE,
        size if size <= LARGEST_PAGE => size,
        size => return Err(wrong("page_size", format!("{size} is too many; write 1 to {LARGEST_PAGE}"))),
    };
    for (name, number) in [("_page", request.page.max(1)), ("_itemsPerPage", size)] {
        parameters.push(Parameter { name: name.to_owned(), keys: Vec::new(), value: number.to_string() });
    }
    Ok(Query(parameters))
}

fn described(asked: &Asked<'_>, table: &'static Table, access: &'static Access) -> v1::Entity {
    let caller = asked.caller();
    let can = |act: Act| may(caller, table, access, act, &asked.rows).is_ok();
    let (create, change) = (can(Act::Create), can(Act::Change));
    let mut fields: Vec<v1::Field> =
        table.shown_order().map(|place| field(caller, &table.fields[place])).collect();
    let sets = table.computed.iter().filter(|computed| !matches!(computed.how, How::Live(_)));
    fields.extend(sets.map(|computed| set(caller, computed)));
    fields.retain(|field| field.listed || field.shown || field.create || field.change);
    for field in &mut fields {
        field.create &= create;
        field.change &= change;
    }
    let key = |places: &&[usize]| {
        let names: Vec<String> = places.iter().map(|place| table.fields[*place].name.to_owned()).collect();
        v1::Key { fields: names }
    };
    v1::Entity {
        name: table.name.to_owned(),
        docs: table.docs.trim().to_owned(),
        list: can(Act::List),
        get: can(Act::Get),
        create,
        change,
        delete: can(Act::Delete),
        fields,
        keys: table.unique.iter().map(key).collect(),
    }
}

fn field(caller: &Caller, field: &model::define::Field) -> v1::Field {
    let view = caller.view(field);
    let (kind, values, target): (&str, &[&str], &str) = match field.kind {
        Kind::Id => ("id", &[], ""),
        Kind::Bool => ("bool", &[], ""),
        Kind::Int(..) => ("int", &[], ""),
        Kind::Decimal => ("decimal", &[], ""),
        Kind::Float => ("float", &[], ""),
        Kind::Text => ("text", &[], ""),
        Kind::Choice(values) => ("choice", values, ""),
        Kind::Time => ("time", &[], ""),
        Kind::Date => ("date", &[], ""),
        Kind::Clock => ("clock", &[], ""),
        Kind::Reference(target) => ("reference", &[], target().name),
        Kind::Group(shape) => ("group", shape.names, ""),
        Kind::Json => ("json", &[], ""),
        Kind::Secret => ("secret", &[], ""),
        Kind::Password => ("password", &[], ""),
    };
    let is_id = matches!(field.kind, Kind::Id);
    v1::Field {
        name: field.name.to_owned(),
        docs: field.docs.trim().to_owned(),
        kind: kind.to_owned(),
        nullable: field.nullable,
        required: field.must_be_given(),
        max_length: u32::try_from(field.max).unwrap_or(u32::MAX),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
        target: target.to_owned(),
        listed: view.list,
        shown: view.detail,
        create: view.create && !is_id,
        change: view.change && !is_id,
    }
}

fn set(caller: &Caller, computed: &Computed) -> v1::Field {
    let view = caller.view_computed(computed);
    let target = match computed.how {
        How::Pairs(through, _, theirs) => match through().field(theirs).map(|field| field.kind) {
            Some(Kind::Reference(target)) => target().name,
            _ => "",
        },
        How::Members(members, _) => members().name,
        How::Derived(_) | How::Live(_) => "",
    };
    let is_set = !target.is_empty();
    v1::Field {
        name: computed.name.to_owned(),
        docs: computed.docs.trim().to_owned(),
        kind: if is_set { "set" } else { "derived" }.to_owned(),
        target: target.to_owned(),
        listed: false,
        shown: view.detail,
        create: view.create && is_set,
        change: view.change && is_set,
        ..v1::Field::default()
    }
}
