//! Documents that virtual faxes sent and received (manual 10.1.9, "Sending a fax").
//!
//! Elsewhere: the fax itself ([`Fax`]).

use crate::checks;
use crate::prelude::*;

/// A document that a virtual fax received or sends.
#[derive(Clone, Debug, Entity)]
#[entity(path = "faxes_in_outs", access = ACCESS, rules)]
pub struct FaxesInOut {
    /// The document's number in the API.
    #[field(client = "ld", user = "ld")]
    pub id: Id<FaxesInOut>,
    /// When it was received, or handed in to be sent.
    #[field(now, client = "ldw", user = "ldw")]
    pub calldate: Timestamp,
    /// The number that sent it.
    #[field(max = 128, client = "ldw", user = "ldw")]
    pub src: Option<String>,
    /// The number that it is sent to, or that received it; digits only. With a country it is without the
    /// calling code.
    #[field(max = 128, client = "ldw", user = "ldw")]
    pub dst: Option<String>,
    /// Which way it goes.
    #[field(name = "type", default = FaxesInOutKind::Out, client = "ldw", user = "ldw")]
    pub kind: Option<FaxesInOutKind>,
    /// How many pages were transmitted.
    #[field(max = 64, client = "dw", user = "dw")]
    pub pages: Option<String>,
    /// How far it is.
    #[field(client = "ldw", user = "ldw")]
    pub status: Option<FaxesInOutStatus>,
    /// The document, a PDF.
    #[field(client = "ldw", user = "ldw")]
    pub file: File,
    /// The virtual fax.
    #[field(delete = "cascade", index, client = "dw", user = "dw")]
    pub fax: Id<Fax>,
    /// The country of the number that it is sent to; null: the number is whole.
    #[field(delete = "clear", client = "dw", user = "dw")]
    pub dst_country: Option<Id<Country>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Client, "lgcd")
        .acl()
        .order(&["-calldate"])
        .read(&[Rule::Visible("fax")])
        .write(&[Rule::Visible("fax"), Rule::Is("type", "Out")])
        .delete(&[Rule::Visible("fax")]),
    Access::at(Level::User, "lgcd")
        .order(&["-calldate"])
        .read(&[Rule::Visible("fax")])
        .write(&[Rule::Visible("fax"), Rule::Is("type", "Out")]),
];

choice! {
    /// Which way a document goes.
    pub enum FaxesInOutKind {
        /// It was received.
        In = "In",
        /// It is sent.
        Out = "Out",
    }
}

choice! {
    /// How far a document is.
    pub enum FaxesInOutStatus {
        /// It failed; one that was to be sent may be sent again.
        Error = "error",
        /// It waits to be sent.
        Pending = "pending",
        /// It is being transmitted.
        Inprogress = "inprogress",
        /// It was transmitted as a whole.
        Completed = "completed",
    }
}

impl FaxesInOut {
    /// Sends a document again that could not be sent.
    ///
    /// # Errors
    ///
    /// It was received, or did not fail.
    pub fn resend(id: Id<FaxesInOut>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let document = draft.get(id).ok_or(Refusal::Gone)?;
        if document.kind != Some(FaxesInOutKind::Out) || document.status != Some(FaxesInOutStatus::Error) {
            return Err(Refusal::wrong("status", "only what was to be sent and failed is sent again"));
        }
        draft.change(id, |document| document.status = Some(FaxesInOutStatus::Pending))
    }
}

impl Rules for FaxesInOut {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        self.status.get_or_insert(FaxesInOutStatus::Pending);
        let plain =
            |number: String| number.chars().filter(|c| *c != '+' && !c.is_whitespace()).collect::<String>();
        self.dst = self.dst.take().map(plain).filter(|number| !number.is_empty());
        if old.is_none_or(|old| old.dst != self.dst || old.kind != self.kind) {
            check.require(self.dst.as_deref().is_none_or(checks::digits), "dst", "write digits only");
            let aimed = self.dst.is_some() || self.kind != Some(FaxesInOutKind::Out);
            check.require(aimed, "dst", "write the number that the document is sent to");
        }
        let company = |id: Id<Fax>| check.rows.get(id).map(|fax| fax.company);
        let new = company(self.fax);
        let moved = new.is_some() && old.is_some_and(|old| company(old.fax) != new);
        check.require(!moved, "fax", "the fax belongs to another client; choose one of this client");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, change_on};

    fn document(dst: &str) -> FaxesInOut {
        FaxesInOut { dst: Some(dst.into()), fax: Id::new(1), ..FaxesInOut::default() }
    }

    #[test]
    fn a_number_is_kept_as_digits_and_the_document_waits() {
        let (id, rows, _) = change(|draft| draft.create(document("+34 944 048"))).unwrap();
        let saved = rows.get(id).unwrap();
        assert_eq!((saved.dst.as_deref(), saved.status), (Some("34944048"), Some(FaxesInOutStatus::Pending)));
    }

    #[test]
    fn a_document_is_sent_to_a_number() {
        for nowhere in ["", " + ", "94-4"] {
            let refused = change(|draft| draft.create(document(nowhere))).unwrap_err();
            assert!(refused.to_string().starts_with("dst: "), "{refused}");
        }
        let received = FaxesInOut { kind: Some(FaxesInOutKind::In), ..document("") };
        change(|draft| draft.create(received)).unwrap();
    }

    #[test]
    fn only_what_failed_to_be_sent_is_sent_again() {
        let failed: Id<FaxesInOut> = Id::new(3);
        let ((), rows, _) = change(|draft| FaxesInOut::resend(failed, draft)).unwrap();
        assert_eq!(rows.get(failed).unwrap().status, Some(FaxesInOutStatus::Pending));
        change_on(&rows, |draft| FaxesInOut::resend(failed, draft)).unwrap_err();
        let received_badly: Id<FaxesInOut> = Id::new(1);
        change(|draft| FaxesInOut::resend(received_badly, draft)).unwrap_err();
    }

    #[test]
    fn a_document_stays_with_the_client() {
        let ((), rows, _) =
            change(|draft| draft.change(Id::<FaxesInOut>::new(1), |row| row.fax = Id::new(2))).unwrap();
        let fax = Fax { name: "x".into(), company: Id::new(2), ..Fax::default() };
        let moved = change_on(&rows, |draft| {
            let fax = draft.create(fax)?;
            draft.change(Id::<FaxesInOut>::new(1), |row| row.fax = fax)
        });
        assert!(moved.unwrap_err().to_string().starts_with("fax: "));
    }
}
