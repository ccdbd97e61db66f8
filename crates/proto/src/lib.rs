//! Messages, clients and servers of gRPC, made of `proto/carillon/v1` by the build script.
//!
//! Elsewhere: serving `admin.proto` (crate `api`, room `grpc`), asking (`carillon ctl`); what nodes tell each other (crate `mesh`).

/// Package `carillon.v1`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated; the documents are in the proto file"
)]
pub mod v1 {
    tonic::include_proto!("carillon.v1");

    /// What reflection tells of the package: an encoded `FileDescriptorSet`.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/admin.bin"));
}
