//! Sets of media relays.
//!
//! Manual, chapters 8.1 and 8.14.3. Elsewhere: the relays in them (`rtpengine`).

use crate::prelude::*;

/// Media relays that carry the audio of the clients and providers assigned to the set: to reserve capacity,
/// or to be near. Set 0 is the platform's default and cannot be changed or deleted.
#[derive(Clone, Debug, Entity)]
#[entity(path = "media_relay_sets", access = ACCESS, unique(name), rules)]
pub struct MediaRelaySet {
    /// Number of the set.
    #[field(platform = "ld", brand = "ld")]
    pub id: Id<MediaRelaySet>,
    /// What operators call it; it occurs once.
    #[field(max = 32, default = "", platform = "ldw", brand = "ld")]
    pub name: String,
    /// A note for operators.
    #[field(max = 200, platform = "ldw", brand = "ld")]
    pub description: Option<String>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgcud").acl().order(&["name"]).write(&[Rule::IsNot("id", "0")]),
    Access::at(Level::Brand, "lg")
        .acl()
        .order(&["name"])
        .read(&[Rule::Where(assigned)])
        .write(&[Rule::Never]),
];

fn assigned(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    paired::<MediaRelaySetsRelBrand>(rows, "brand", caller.brand.unwrap_or(0), "mediaRelaySet", row.id())
}

impl Rules for MediaRelaySet {
    fn deleting(&self, _: &mut Draft<'_>) -> Result<(), Refusal> {
        if self.id.get() == 0 {
            return Err(Refusal::Forbidden("the default media relay set cannot be deleted".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    #[test]
    fn only_other_sets_than_the_default_are_deleted() {
        assert!(change(|draft| draft.delete(Id::<MediaRelaySet>::new(2))).is_ok());
        let refusal = change(|draft| draft.delete(Id::<MediaRelaySet>::new(0))).unwrap_err();
        assert!(refusal.to_string().contains("default"), "{refusal}");
    }
}
