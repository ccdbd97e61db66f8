//! A server for acceptance runs of the API: rows in memory, fixed answers of the outside world, and a way to begin anew.
//!
//! Not part of the product: it keeps nothing, and everybody who reaches its control port may reset it.

use api::live::{InMemory, Live};
use api::outside::{
    CallCount, CallsOf, NotHere, Outside, Registration, SimulatedCall, Surroundings, Template, TrunkState,
};
use api::server::{Api, router};
use api::serving::{Limits, serve};
use api::{FileLimits, Hasher, Storage, Tokens};
use async_trait::async_trait;
use axum::http::StatusCode;
use clap::Parser;
use model::define::{Entity, Value, parse_time};
use model::entities::{SigningKey, TABLES};
use model::import::import;
use model::rows::Rows;
use rust_decimal::Decimal;
use serde_json::Value as Json;
use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Parser)]
#[command(about = "Serves the four levels of the REST API over rows in memory, for acceptance runs")]
struct Arguments {
    /// Where the API is served.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where POST /reset is served; a loopback address.
    #[arg(long)]
    control: Option<SocketAddr>,
    /// What the outside world answers.
    #[arg(long)]
    doubles: PathBuf,
    /// Where uploaded files are kept.
    #[arg(long)]
    storage: PathBuf,
    /// The rows to begin with.
    #[arg(long)]
    import: PathBuf,
}

struct Doubles {
    active_calls: u32,
    rating: Json,
    registrations: Vec<(String, String, Registration)>,
    /// Tags of destinations, as another rating engine writes them, and their ids.
    destinations: Vec<(String, u32)>,
    /// The templates that the rows begin with: the model, the generic and the specific one.
    templates: Vec<(String, Option<String>, Option<String>)>,
}

/// The rows of an entity in the document.
fn listed<'a>(document: &'a Json, entity: &str) -> impl Iterator<Item = &'a Json> + use<'a> {
    let rows = document.get("entities").and_then(|entities| entities.get(entity)).and_then(Json::as_array);
    rows.into_iter().flatten()
}

fn text(row: &Json, name: &str) -> Option<String> {
    row.get(name).and_then(Json::as_str).map(str::to_owned)
}

fn id(row: &Json, name: &str) -> Option<u32> {
    row.get(name).and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok())
}

impl Doubles {
    fn read(doubles: &Json, rows: &Json) -> Self {
        let count = doubles.pointer("/activeCalls/everyCountQuery").and_then(Json::as_u64).unwrap_or(0);
        let destination = |row| Some((text(row, "tag")?, id(row, "destination")?));
        let templates =
            |row| Some((text(row, "iden")?, text(row, "genericTemplate"), text(row, "specificTemplate")));
        Self {
            active_calls: u32::try_from(count).unwrap_or(0),
            rating: doubles.pointer("/rating/simulate_call").cloned().unwrap_or(Json::Null),
            registrations: listed(rows, "Kam.UsersLocation").filter_map(location).collect(),
            destinations: listed(rows, "Cgr.TpDestination").filter_map(destination).collect(),
            templates: listed(rows, "Provider.TerminalModel").filter_map(templates).collect(),
        }
    }
}

fn location(row: &Json) -> Option<(String, String, Registration)> {
    let text = |name: &str| row.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
    let registration = Registration {
        contact: text("contact"),
        received: text("received"),
        expires: parse_time(&text("expires"), &jiff::tz::TimeZone::UTC)?,
        user_agent: text("userAgent"),
        node: 1,
    };
    Some((text("username"), text("domain"), registration))
}

#[async_trait]
impl Outside for Doubles {
    async fn registrations(&self, user: &str, domain: &str) -> Vec<Registration> {
        let of = self.registrations.iter().filter(|(name, at, _)| name == user && at == domain);
        of.map(|(_, _, registration)| registration.clone()).collect()
    }

    async fn calls(&self, _: CallsOf) -> CallCount {
        CallCount { inbound: self.active_calls, outbound: self.active_calls, internal: 0 }
    }

    // The trunks of the doubles are known to be down.
    async fn carrier_server(&self, _: u32) -> Option<TrunkState> {
        Some(TrunkState { up: false, in_progress: false, expires_in: None })
    }

    async fn provider_registration(&self, _: u32) -> Option<TrunkState> {
        Some(TrunkState { up: false, in_progress: false, expires_in: None })
    }

    async fn simulate_call(&self, _: u32, _: &str, _: u32) -> Result<Option<SimulatedCall>, NotHere> {
        let missing = || NotHere("the doubles say nothing of rating".to_owned());
        let text = |name: &str| self.rating.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
        let decimal = |name: &str| -> Decimal {
            let number = self.rating.get(name).map(Json::to_string).unwrap_or_default();
            number.parse().unwrap_or_default()
        };
        let whole = |name: &str| {
            let number = self.rating.get(name).and_then(Json::as_u64);
            number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
        };
        let tag = text("destinationTag");
        Ok(Some(SimulatedCall {
            duration: whole("usageSeconds"),
            prefix: text("destinationPrefix"),
            destination: self.destinations.iter().find(|(known, _)| *known == tag).map(|(_, id)| *id),
            cost: decimal("cost"),
            rate: decimal("rateValue"),
            increment: whole("rateIncrementSeconds"),
            unit: whole("rateUnitSeconds"),
            connect_fee: decimal("connectFee"),
            interval_start: 0,
            at: text("startTime").parse().map_err(|_| missing())?,
        }))
    }

    async fn default_template(&self, model: &str, template: Template) -> Result<Option<String>, NotHere> {
        let known = self.templates.iter().find(|(iden, ..)| iden == model);
        Ok(known.and_then(|(_, generic, specific)| match template {
            Template::Generic => generic.clone(),
            Template::Specific => specific.clone(),
        }))
    }

    async fn rerate(&self, _: &[u32]) -> Result<(), NotHere> {
        Ok(())
    }

    async fn invoice_preview(&self, _: u32) -> Result<Vec<u8>, NotHere> {
        Ok(b"%PDF-1.4\n%%EOF\n".to_vec())
    }

    async fn sends_faxes(&self) -> Result<(), NotHere> {
        Ok(())
    }

    async fn makes_invoices(&self) -> Result<(), NotHere> {
        Ok(())
    }

    async fn send_fax(&self, _: u32) -> Result<(), NotHere> {
        Ok(())
    }

    async fn make_invoice(&self, _: u32) -> Result<(), NotHere> {
        Ok(())
    }
}

fn read_json(path: &Path) -> Result<Json, Box<dyn Error>> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn read_rows(document: &Json) -> Result<Rows, Box<dyn Error>> {
    match import(document, &Rows::default(), true, jiff::Timestamp::now(), &Hasher) {
        Ok((rows, ..)) => Ok(rows),
        Err(mistakes) => {
            Err(mistakes.iter().map(|mistake| format!("{mistake}\n")).collect::<String>().into())
        }
    }
}

/// The sample rows describe files that did not come with them: as many octets stand in for those that are missing.
fn stand_in_files(storage: &Path, rows: &Rows) -> std::io::Result<()> {
    const MOST: usize = 1024 * 1024;
    for table in TABLES.iter().copied() {
        for (field, row) in table.fields.iter().flat_map(|field| rows.all(table).map(move |row| (field, row)))
        {
            let Value::Int(size) = row.named(field.name).part("fileSize") else { continue };
            let place = api::file_place(storage, table, field.name, row.id());
            if place.exists() {
                continue;
            }
            if let Some(directory) = place.parent() {
                std::fs::create_dir_all(directory)?;
            }
            std::fs::write(place, vec![0; usize::try_from(size).unwrap_or(0).min(MOST)])?;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if arguments.control.is_some_and(|control| !control.ip().is_loopback()) {
        return Err("--control: name a loopback address; whoever reaches it may reset everything".into());
    }
    let document = read_json(&arguments.import)?;
    let rows = read_rows(&document)?;
    let doubles = Doubles::read(&read_json(&arguments.doubles)?, &document);
    std::fs::create_dir_all(&arguments.storage)?;
    stand_in_files(&arguments.storage, &rows)?;
    let live = Arc::new(Live::new(rows.clone(), Arc::new(InMemory), Arc::new(Hasher)));
    let storage = Storage::new(arguments.storage, FileLimits::default());
    let surroundings = Surroundings { outside: Arc::new(doubles), storage };
    let api = Arc::new(Api {
        live: Arc::clone(&live),
        tokens: Tokens::default(),
        surroundings,
        watchers: Arc::default(),
    });
    if let Some(control) = arguments.control {
        let reset = move || {
            let (live, rows) = (Arc::clone(&live), rows.clone());
            async move {
                // Tokens that were given out stay good.
                let mut rows = rows;
                let known = live.rows();
                known.all(SigningKey::definition()).for_each(|key| rows.insert(Arc::clone(key)));
                live.replace(rows).await;
                StatusCode::NO_CONTENT
            }
        };
        let control_router = axum::Router::new().route("/reset", axum::routing::post(reset));
        let listener = tokio::net::TcpListener::bind(control).await?;
        tokio::spawn(async move { axum::serve(listener, control_router).await });
    }
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    // Whoever measures it comes from one address.
    let limits = Limits { connections: 4096, per_address: 4096, ..Limits::default() };
    serve(listener, router(api), limits, None).await;
    Ok(())
}
