//! gRPC for operators' programs: the services of `proto/carillon/v1/admin.proto`, on the REST listener and on the control socket.
//!
//! In: calls. Out: answers by the same rules as REST. Rooms: `configuration` (describing, lists, rows), `apply` (many changes as
//! one), `told` (what a change looks like to a caller), `watch` (changes as they are made), `operation` (calls, bindings), `cluster` (nodes), `simulation` (calls that might be),
//! `access` (logging in). Health (`grpc.health.v1`) is told to everybody. Elsewhere: the rules (`write`, `list`, `show`, `auth`), asking (`carillon ctl`).

mod access;
mod apply;
mod cluster;
mod configuration;
mod operation;
mod simulation;
mod told;
mod watch;

pub use watch::Watchers;

use crate::auth::{self, Identity};
use crate::bodies;
use crate::http::{LARGEST_FORM, Problem};
use crate::live::{ChangeError, NotKept};
use crate::proof::Proof;
use crate::routes::{self, Deed};
use crate::server::Api;
use crate::shares::Part;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, header};
use axum::middleware::Next;
use model::define::{Access, Operations, Table};
use model::entities::TABLES;
use model::rows::Rows;
use model::rules::{Mistake, Refusal};
use model::scope::Caller;
use proto::v1;
use proto::v1::access_server::AccessServer;
use proto::v1::configuration_server::ConfigurationServer;
use proto::v1::operation_server::OperationServer;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// Most octets of a message to the server, from whoever has a token.
const LARGEST_MESSAGE: usize = 4 * 1024 * 1024;
/// Octets before a message: whether it is compressed, and how long it is.
const PREFIX: usize = 5;
/// Where paths of calls begin that need no token.
const ACCESS: &str = "/carillon.v1.Access/";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/";
const HEALTH: &str = "/grpc.health.v1.Health/";
/// How long a call may take until its answer begins.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most characters of an error's message: it travels in a header.
const LONGEST_ERROR: usize = 1500;
/// Most fields that an error names apart.
const MOST_VIOLATIONS: usize = 15;

/// Serves the calls of one listener.
#[derive(Clone)]
pub(crate) struct Service {
    api: Arc<Api>,
    /// Whoever reaches the listener is the operator of the whole.
    trusts: bool,
}

impl Service {
    /// Who is calling.
    fn identify(&self, rows: &Rows, proof: &Proof) -> Result<Identity, Status> {
        if self.trusts {
            return Ok(Identity::at_the_machine());
        }
        auth::identify_any(&self.api.tokens, rows, proof).map_err(status)
    }

    /// The call with its message, which is read when it is known who sends it: strangers send little, and what others send
    /// is paid for as bodies of REST are. The second part holds its memory.
    async fn admit(&self, mut request: Request) -> Result<(Request, Option<Part>), Status> {
        let path = request.uri().path();
        // A stream of messages, each of which is small.
        if path.starts_with(REFLECTION) {
            return Ok((request, None));
        }
        let (most, caller) = if path.starts_with(ACCESS) || path.starts_with(HEALTH) {
            (LARGEST_FORM, None)
        } else {
            let proof = Proof::of(request.headers(), request.extensions());
            let caller = self.identify(&self.api.live.rows(), &proof)?.caller;
            request.extensions_mut().insert(proof);
            // The operator's own messages take nothing of what others share.
            (LARGEST_MESSAGE, Some(caller).filter(|caller| !caller.operator))
        };
        let (parts, body) = request.into_parts();
        let (message, paid) = bodies::read(body, PREFIX + most, caller.as_ref()).await.map_err(status)?;
        Ok((Request::from_parts(parts, Body::from(message)), paid))
    }

    /// A call with what serving it takes.
    fn begin(&self, proof: &Proof) -> Result<Asked<'_>, Status> {
        let rows = self.api.live.rows();
        let identity = self.identify(&rows, proof)?;
        Ok(Asked { api: &self.api, identity, rows })
    }
}

/// What a call proves its sender by; it was noted when the call was let in.
fn proof<T>(request: &tonic::Request<T>) -> Proof {
    request.extensions().get::<Proof>().cloned().unwrap_or_default()
}

/// A call while it is served.
struct Asked<'a> {
    api: &'a Arc<Api>,
    identity: Identity,
    rows: Arc<Rows>,
}

impl Asked<'_> {
    fn caller(&self) -> &Caller {
        &self.identity.caller
    }

    /// The entity of this name, if the caller may do this with it at all.
    fn entity(&self, name: &str, act: Act) -> Result<(&'static Table, &'static Access), Status> {
        let (table, access) = entity(self.caller(), name).map_err(status)?;
        may(self.caller(), table, access, act, &self.rows).map_err(status)?;
        Ok((table, access))
    }
}

/// What is done with an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    List,
    Get,
    Create,
    Change,
    Delete,
}

impl Act {
    fn is_in(self, operations: Operations) -> bool {
        match self {
            Act::List => operations.list,
            Act::Get => operations.get,
            Act::Create => operations.create,
            Act::Change => operations.change,
            Act::Delete => operations.delete,
        }
    }

    fn deed(self) -> Deed {
        match self {
            Act::List | Act::Get => Deed::Read,
            Act::Create => Deed::Create,
            Act::Change => Deed::Update,
            Act::Delete => Deed::Delete,
        }
    }

    fn participle(self) -> &'static str {
        match self {
            Act::List => "listed",
            Act::Get => "read by itself",
            Act::Create => "created",
            Act::Change => "changed",
            Act::Delete => "deleted",
        }
    }
}

/// The entity of this name, if there is such a thing for the caller.
fn entity(caller: &Caller, name: &str) -> Result<(&'static Table, &'static Access), Problem> {
    const LONGEST: usize = 60;
    let named = |table: &&Table| {
        table.name.eq_ignore_ascii_case(name) || (!table.path.is_empty() && table.path == name)
    };
    let table = TABLES.iter().copied().find(|table| named(table));
    let known = table.and_then(|table| Some((table, known_access(caller, table)?)));
    known.ok_or_else(|| {
        let name: String = name.chars().take(LONGEST).collect();
        let detail = format!("entity: there is no {name:?} here; the documents say which entities there are");
        Problem { detail, ..Problem::not_found() }
    })
}

/// What the caller may do with an entity; none: it is not there for him.
fn known_access(caller: &Caller, table: &'static Table) -> Option<&'static Access> {
    caller.access(table).filter(|access| access.operations != Operations::default())
}

/// Whether the caller may do this to rows of the entity at all.
fn may(
    caller: &Caller,
    table: &'static Table,
    access: &'static Access,
    act: Act,
    rows: &Rows,
) -> Result<(), Problem> {
    if !act.is_in(access.operations) {
        let (level, act) = (caller.level.name(), act.participle());
        return Err(Problem::forbidden(format!("{} is not {act} at the level {level}", table.name)));
    }
    routes::allow(table, access, act.deed(), caller, rows)
}

/// The services, to be put beside the REST routes.
pub(crate) fn router(api: &Arc<Api>, trusts: bool) -> axum::Router {
    let service = Service { api: Arc::clone(api), trusts };
    let access = AccessServer::new(service.clone()).max_decoding_message_size(LARGEST_FORM);
    let configuration = ConfigurationServer::new(service.clone()).max_decoding_message_size(LARGEST_MESSAGE);
    let operation = OperationServer::new(service.clone()).max_decoding_message_size(LARGEST_MESSAGE);
    // A server without telephones may always get requests: that is what a new reporter says.
    let reporter = api.surroundings.outside.health().unwrap_or_default();
    let health = HealthServer::new(HealthService::from_health_reporter(reporter))
        .max_decoding_message_size(LARGEST_FORM);
    let mut router = axum::Router::new()
        .route_service("/grpc.health.v1.Health/{*call}", health)
        .route_service("/carillon.v1.Access/{*call}", access)
        .route_service("/carillon.v1.Configuration/{*call}", configuration)
        .route_service("/carillon.v1.Operation/{*call}", operation);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    match reflection {
        Ok(reflection) => {
            let reflection = reflection.max_decoding_message_size(LARGEST_FORM);
            router = router.route_service("/grpc.reflection.v1.ServerReflection/{*call}", reflection);
        }
        Err(error) => tracing::error!(%error, "gRPC reflection tells nothing"),
    }
    router.layer(axum::middleware::from_fn_with_state(service, begun))
}

/// Calls that are let in, with their messages; those whose answer does not begin are ended.
async fn begun(State(service): State<Service>, mut request: Request, next: Next) -> Response<Body> {
    // Which portal somebody logs in by is asked of the host.
    let host = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host);
    }
    let answering = async {
        match service.admit(request).await {
            Ok((request, _paid)) => next.run(request).await,
            Err(status) => status.into_http(),
        }
    };
    match tokio::time::timeout(PATIENCE, answering).await {
        Ok(response) => response,
        Err(_) => Status::deadline_exceeded(format!(
            "the call took longer than {} s; send it whole and at once",
            PATIENCE.as_secs()
        ))
        .into_http(),
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most).chain(['…']).collect()
}

/// An error as gRPC tells it.
fn status(problem: Problem) -> Status {
    let code = match problem.status.as_u16() {
        400 | 415 | 422 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 | 405 => Code::PermissionDenied,
        404 => Code::NotFound,
        408 => Code::DeadlineExceeded,
        413 | 429 => Code::ResourceExhausted,
        501 => Code::Unimplemented,
        503 => Code::Unavailable,
        402..=499 => Code::FailedPrecondition,
        _ => Code::Internal,
    };
    let message = cut(&problem.detail, LONGEST_ERROR);
    if problem.mistakes.is_empty() {
        return Status::new(code, message);
    }
    const LONGEST_REMEDY: usize = 150;
    let violation = |mistake: &Mistake| {
        FieldViolation::new(cut(&mistake.field, LONGEST_REMEDY), cut(&mistake.remedy, LONGEST_REMEDY))
    };
    let violations: Vec<FieldViolation> =
        problem.mistakes.iter().take(MOST_VIOLATIONS).map(violation).collect();
    Status::with_error_details(code, message, ErrorDetails::with_bad_request(violations))
}

fn refused(refusal: Refusal) -> Status {
    status(refusal.into())
}

/// Why a change was not made, as gRPC tells it.
fn not_made(error: ChangeError) -> Status {
    match error {
        ChangeError::Refused(refusal) => refused(refusal),
        ChangeError::NotKept(NotKept::Conflict) => {
            Status::aborted("others changed the configuration meanwhile; try again")
        }
        error => status(error.into()),
    }
}

/// A mistake in one field of the request.
fn wrong(field: &str, remedy: impl Into<String>) -> Status {
    refused(Refusal::wrong(field, remedy))
}
