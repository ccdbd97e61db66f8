//! Makes messages, clients and servers of `proto/`, without protoc, and what reflection tells of them.
//!
//! Elsewhere: what they are for (the files in `proto/carillon/v1`).

use prost::Message as _;
use std::error::Error;
use std::path::PathBuf;

/// What nodes tell each other; reflection says nothing of it.
const BETWEEN_NODES: [&str; 4] = [
    "carillon/v1/peer.proto",
    "carillon/v1/leg.proto",
    "carillon/v1/media.proto",
    "carillon/v1/directory.proto",
];

/// Messages whose `bytes` are shared with the frame that they came in, instead of copied.
const SHARED: [&str; 12] = [
    "IncomingLeg",
    "LegState",
    "Capsule",
    "KeptLeg",
    "Origination",
    "Revive",
    "LegEvent",
    "LegCommand",
    "SocketAddress",
    "Submission",
    "MediaCommand",
    "MediaReply",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let admin = "carillon/v1/admin.proto";
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("admin.bin"), protox::compile([admin], [&root])?.encode_to_vec())?;
    let all = protox::compile(BETWEEN_NODES.into_iter().chain([admin]), [&root])?;
    let mut made = tonic_prost_build::configure().build_transport(false);
    for message in SHARED {
        made = made.bytes(format!(".carillon.v1.{message}"));
    }
    made.compile_fds(all)?;
    Ok(())
}
