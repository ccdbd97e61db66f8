//! Choices that several entities have.
//!
//! Elsewhere: what a choice is ([`super::Choice`]); those of one entity stand in its file.

use super::value::choice;

choice! {
    /// Yes or no, where the dialect has words for it.
    pub enum YesNo {
        /// Yes.
        Yes = "yes",
        /// No.
        No = "no",
    }
}

choice! {
    /// Which way a call goes, seen from the platform.
    pub enum Direction {
        /// From outside to the platform.
        Inbound = "inbound",
        /// From the platform to the outside.
        Outbound = "outbound",
    }
}

choice! {
    /// Where a call goes that a service gives up.
    pub enum PlainTarget {
        /// An external number.
        Number = "number",
        /// An extension.
        Extension = "extension",
        /// A voicemail.
        Voicemail = "voicemail",
    }
}

choice! {
    /// Where a conditional route leads.
    pub enum ConditionalTarget {
        /// A user.
        User = "user",
        /// An external number.
        Number = "number",
        /// An IVR.
        Ivr = "ivr",
        /// A hunt group.
        HuntGroup = "huntGroup",
        /// A voicemail.
        Voicemail = "voicemail",
        /// A friend.
        Friend = "friend",
        /// A queue.
        Queue = "queue",
        /// A conference room.
        ConferenceRoom = "conferenceRoom",
        /// An extension.
        Extension = "extension",
    }
}

choice! {
    /// Whether a call is let through.
    pub enum Policy {
        /// It is.
        Allow = "allow",
        /// It is not.
        Deny = "deny",
    }
}

choice! {
    /// How SIP travels.
    pub enum Transport {
        /// UDP.
        Udp = "udp",
        /// TCP.
        Tcp = "tcp",
        /// TLS over TCP.
        Tls = "tls",
    }
}

choice! {
    /// The SIP method that changes a session which is established.
    pub enum MediaMethod {
        /// A re-INVITE (RFC 3261 section 14).
        Invite = "invite",
        /// UPDATE (RFC 3311).
        Update = "update",
    }
}

choice! {
    /// The header that tells of another caller's name during a call.
    pub enum CallerIdHeader {
        /// P-Asserted-Identity (RFC 3325).
        Pai = "pai",
        /// Remote-Party-ID.
        Rpid = "rpid",
    }
}

choice! {
    /// How far the conversion of an uploaded sound file is.
    pub enum EncodingStatus {
        /// It waits.
        Pending = "pending",
        /// It is being converted.
        Encoding = "encoding",
        /// It can be played.
        Ready = "ready",
        /// It could not be converted.
        Error = "error",
    }
}

choice! {
    /// What happens to the number that a call shows.
    pub enum DdiAction {
        /// It stays.
        Keep = "keep",
        /// Another one is shown.
        Force = "force",
    }
}
