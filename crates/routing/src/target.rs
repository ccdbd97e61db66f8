//! What numbers within a virtual PBX mean, and what DDIs and extensions lead to, as data.
//!
//! In: rows. Out: targets; those that no part of the platform serves yet, too: who places the call decides about them.
//! Elsewhere: numbers of the world ([`crate::outgoing`], [`crate::incoming`]).

use crate::Router;
use crate::transform::EXPRESSIONS_MAX;
use model::define::Entity;
use model::entities::{
    Company, ConditionalRoute, ConferenceRoom, Country, Ddi, DdiRouteType, Extension, ExtensionRouteType,
    Fax, Friend, FriendDirectConnectivity, FriendsPattern, HuntGroup, Ivr, Locution, Queue,
    ResidentialDevice, RetailAccount, User, Voicemail,
};
use model::{E164, Id};

/// Whom or what a call reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A user.
    User(Id<User>),
    /// A remote friend.
    Friend {
        /// The friend.
        friend: Id<Friend>,
        /// What is called there.
        number: String,
    },
    /// An extension of another client of the corporation, by an internal friend. What it leads to is asked by
    /// [`Router::extension_target`], once: extensions can lead to each other in a circle.
    OtherClient {
        /// The friend that stands for the client.
        friend: Id<Friend>,
        /// The extension there.
        extension: Id<Extension>,
    },
    /// A residential device.
    ResidentialDevice(Id<ResidentialDevice>),
    /// A retail account.
    RetailAccount(Id<RetailAccount>),
    /// A number outside. The call goes out by [`Router::route`] with [`crate::Dialled::Number`].
    Number(E164),
    /// A service.
    Service(Service),
}

/// Services that calls reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its entity")]
pub enum Service {
    Ivr(Id<Ivr>),
    HuntGroup(Id<HuntGroup>),
    ConferenceRoom(Id<ConferenceRoom>),
    Queue(Id<Queue>),
    ConditionalRoute(Id<ConditionalRoute>),
    Fax(Id<Fax>),
    Voicemail(Id<Voicemail>),
    Locution(Id<Locution>),
}

/// Why a DDI or an extension leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    /// It has no route.
    #[error("it has no route; choose one in its field routeType")]
    Unassigned,
    /// What its route names is missing.
    #[error("its field {0} names nothing that there is; choose another target")]
    Missing(&'static str),
    /// No friend has the number that it leads to.
    #[error("no friend of the client has {0}, which its field friendValue says; add a pattern to one")]
    NoFriend(String),
    /// The external number is none.
    #[error("{0}, from its country and number, is no number in E.164; correct them")]
    NotE164(String),
}

impl Router {
    /// What a number dialled within a virtual PBX is, if it is neither a service nor outside: an extension, or behind a friend
    /// (manual, chapter 10.1.5 "Friends"). Nothing: it is an external call.
    pub fn within(&self, client: Id<Company>, dialled: &str) -> Option<Result<Target, NoTarget>> {
        match self.snapshot.extension(client, dialled) {
            Some(extension) => Some(self.extension_target(extension)),
            None => self.behind_friend(client, dialled).map(Ok),
        }
    }

    /// What an extension leads to.
    ///
    /// # Errors
    ///
    /// It leads nowhere.
    pub fn extension_target(&self, extension: &Extension) -> Result<Target, NoTarget> {
        let service = |service: Result<Service, NoTarget>| service.map(Target::Service);
        match extension.route_type.ok_or(NoTarget::Unassigned)? {
            ExtensionRouteType::User => self.existing(extension.user, "user").map(Target::User),
            ExtensionRouteType::Number => self
                .outside(extension.number_country, extension.number_value.as_deref().unwrap_or_default())
                .map(Target::Number),
            ExtensionRouteType::Friend => {
                self.friend_of(extension.company, extension.friend_value.as_deref())
            }
            ExtensionRouteType::Ivr => service(self.existing(extension.ivr, "ivr").map(Service::Ivr)),
            ExtensionRouteType::HuntGroup => {
                service(self.existing(extension.hunt_group, "huntGroup").map(Service::HuntGroup))
            }
            ExtensionRouteType::ConferenceRoom => service(
                self.existing(extension.conference_room, "conferenceRoom").map(Service::ConferenceRoom),
            ),
            ExtensionRouteType::Queue => service(self.existing(extension.queue, "queue").map(Service::Queue)),
            ExtensionRouteType::Conditional => service(
                self.existing(extension.conditional_route, "conditionalRoute").map(Service::ConditionalRoute),
            ),
            ExtensionRouteType::Voicemail => {
                service(self.existing(extension.voicemail, "voicemail").map(Service::Voicemail))
            }
            ExtensionRouteType::Locution => {
                service(self.existing(extension.locution, "locution").map(Service::Locution))
            }
        }
    }

    /// What a DDI of a client leads to.
    pub(crate) fn ddi_target(&self, ddi: &Ddi, client: Id<Company>) -> Result<Target, NoTarget> {
        let service = |service: Result<Service, NoTarget>| service.map(Target::Service);
        match ddi.route_type.ok_or(NoTarget::Unassigned)? {
            DdiRouteType::User => self.existing(ddi.user, "user").map(Target::User),
            DdiRouteType::Residential => {
                self.existing(ddi.residential_device, "residentialDevice").map(Target::ResidentialDevice)
            }
            DdiRouteType::Retail => {
                self.existing(ddi.retail_account, "retailAccount").map(Target::RetailAccount)
            }
            DdiRouteType::Friend => self.friend_of(client, ddi.friend_value.as_deref()),
            DdiRouteType::Ivr => service(self.existing(ddi.ivr, "ivr").map(Service::Ivr)),
            DdiRouteType::HuntGroup => {
                service(self.existing(ddi.hunt_group, "huntGroup").map(Service::HuntGroup))
            }
            DdiRouteType::Fax => service(self.existing(ddi.fax, "fax").map(Service::Fax)),
            DdiRouteType::ConferenceRoom => {
                service(self.existing(ddi.conference_room, "conferenceRoom").map(Service::ConferenceRoom))
            }
            DdiRouteType::Queue => service(self.existing(ddi.queue, "queue").map(Service::Queue)),
            DdiRouteType::Conditional => service(
                self.existing(ddi.conditional_route, "conditionalRoute").map(Service::ConditionalRoute),
            ),
            DdiRouteType::Locution => service(self.existing(ddi.locution, "locution").map(Service::Locution)),
        }
    }

    fn existing<E: Entity>(&self, id: Option<Id<E>>, field: &'static str) -> Result<Id<E>, NoTarget> {
        id.filter(|id| self.rows().get(*id).is_some()).ok_or(NoTarget::Missing(field))
    }

    fn friend_of(&self, client: Id<Company>, number: Option<&str>) -> Result<Target, NoTarget> {
        let number = number.unwrap_or_default();
        self.behind_friend(client, number).ok_or_else(|| NoTarget::NoFriend(number.to_owned()))
    }

    /// A number of another country's form, made whole.
    pub(crate) fn outside(&self, country: Option<Id<Country>>, number: &str) -> Result<E164, NoTarget> {
        let code = self.rows().at(country).and_then(|country| country.country_code.as_deref());
        let whole = format!("{}{number}", code.unwrap_or_default());
        whole.parse().map_err(|_| NoTarget::NotE164(whole))
    }

    /// The friend that has a number: by its patterns, or by the extensions of the client that it stands for. Of several, the
    /// one with the least priority. [`EXPRESSIONS_MAX`] patterns are tried.
    fn behind_friend(&self, client: Id<Company>, number: &str) -> Option<Target> {
        let mut friends: Vec<&Friend> = self.rows().of("company", client.get()).collect();
        friends.sort_by_key(|friend| (friend.priority, friend.id));
        let mut left = EXPRESSIONS_MAX;
        friends.into_iter().find_map(|friend| {
            if friend.direct_connectivity == FriendDirectConnectivity::Intervpbx {
                let extension = self.snapshot.extension(friend.inter_company?, number)?;
                return Some(Target::OtherClient { friend: friend.id, extension: extension.id });
            }
            let mut patterns = self.rows().of::<FriendsPattern>("friend", friend.id.get());
            let fits = |pattern: &FriendsPattern| {
                let may = left > 0;
                left = left.saturating_sub(1);
                let expression = self.index.expressions.of_friend(pattern.id).filter(|_| may);
                expression.is_some_and(|expression| expression.is_in(number))
            };
            let fits = patterns.any(fits);
            fits.then(|| Target::Friend { friend: friend.id, number: number.to_owned() })
        })
    }
}
