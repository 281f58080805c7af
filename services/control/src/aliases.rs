//! Lists of addresses: seen and changed in the configuration.

use std::sync::Arc;

use mox_proto::control::v1::alias_service_server::{AliasService, AliasServiceServer};
use mox_proto::control::v1::{
    Alias, AliasAddressesRequest, ChangeConfigResponse, GetAliasRequest, ListAliasesRequest, ListAliasesResponse,
    UpdateAliasRequest,
};
use mox_types::{Address, Domain, Localpart};
use tonic::{Request, Response, Status};

use crate::api::{changed, parsed};
use crate::configuration::{ChangeError, Configuration, InForce};
use crate::edit::{AliasSettings, find_alias};

/// Answers [`AliasService`].
#[derive(Clone)]
pub(crate) struct Aliases {
    configuration: Arc<Configuration>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Aliases {
    /// Of a configuration.
    pub(crate) fn new(configuration: Arc<Configuration>) -> Self {
        Self { configuration }
    }

    /// The gRPC service.
    pub(crate) fn server(self) -> AliasServiceServer<Self> {
        AliasServiceServer::new(self)
    }

    fn in_force(&self) -> Result<Arc<InForce>, Status> {
        let in_force = self.configuration.in_force();
        in_force.ok_or_else(|| {
            Status::unavailable("no configuration is in force yet: see the log for errors in domains.toml")
        })
    }
}

fn addresses(texts: &[String]) -> Result<Vec<Address>, Status> {
    if texts.is_empty() {
        return Err(Status::invalid_argument("name at least one address"));
    }
    texts.iter().map(|text| parsed(text)).collect()
}

fn shown(localpart: &Localpart, domain: &Domain, alias: &mox_config::Alias) -> Alias {
    let address = Address {
        localpart: localpart.clone(),
        domain: domain.clone(),
    };
    Alias {
        address: address.to_string(),
        addresses: alias.addresses.iter().map(ToString::to_string).collect(),
        post_public: alias.post_public,
        list_members: alias.list_members,
        allow_msg_from: alias.allow_msg_from,
    }
}

#[tonic::async_trait]
impl AliasService for Aliases {
    async fn list_aliases(&self, request: Request<ListAliasesRequest>) -> Answer<ListAliasesResponse> {
        let domain: Domain = parsed(&request.into_inner().domain)?;
        let in_force = self.in_force()?;
        let Some(settings) = in_force.config.domains.get(&domain) else {
            return Err(Status::not_found(format!(
                "there is no domain {domain}: see the domains in domains.toml"
            )));
        };
        let aliases = settings.aliases.iter();
        Ok(Response::new(ListAliasesResponse {
            aliases: aliases
                .map(|(localpart, alias)| shown(localpart, &domain, alias))
                .collect(),
        }))
    }

    async fn get_alias(&self, request: Request<GetAliasRequest>) -> Answer<Alias> {
        let address: Address = parsed(&request.into_inner().address)?;
        let in_force = self.in_force()?;
        let (localpart, alias) = find_alias(&in_force.config, &address).map_err(ChangeError::from)?;
        Ok(Response::new(shown(localpart, &address.domain, alias)))
    }

    async fn add_alias(&self, request: Request<Alias>) -> Answer<ChangeConfigResponse> {
        let request = request.into_inner();
        let (address, members): (Address, _) = (parsed(&request.address)?, addresses(&request.addresses)?);
        let set = |setting: bool| setting.then_some(true);
        let settings = AliasSettings {
            post_public: set(request.post_public),
            list_members: set(request.list_members),
            allow_msg_from: set(request.allow_msg_from),
        };
        tracing::info!(%address, "adding an alias");
        let change = self
            .configuration
            .change(move |edit| edit.add_alias(&address, &members, settings));
        Ok(changed(change.await?))
    }

    async fn update_alias(&self, request: Request<UpdateAliasRequest>) -> Answer<ChangeConfigResponse> {
        let request = request.into_inner();
        let address: Address = parsed(&request.address)?;
        let settings = AliasSettings {
            post_public: request.post_public,
            list_members: request.list_members,
            allow_msg_from: request.allow_msg_from,
        };
        if settings == AliasSettings::default() {
            return Err(Status::invalid_argument("name at least one setting to change"));
        }
        tracing::info!(%address, "changing an alias");
        let change = self
            .configuration
            .change(move |edit| edit.update_alias(&address, settings));
        Ok(changed(change.await?))
    }

    async fn remove_alias(&self, request: Request<GetAliasRequest>) -> Answer<ChangeConfigResponse> {
        let address: Address = parsed(&request.into_inner().address)?;
        tracing::info!(%address, "removing an alias");
        let change = self.configuration.change(move |edit| edit.remove_alias(&address));
        Ok(changed(change.await?))
    }

    async fn add_alias_addresses(&self, request: Request<AliasAddressesRequest>) -> Answer<ChangeConfigResponse> {
        let request = request.into_inner();
        let (address, members): (Address, _) = (parsed(&request.address)?, addresses(&request.addresses)?);
        tracing::info!(%address, ?members, "adding addresses to an alias");
        let change = self
            .configuration
            .change(move |edit| edit.add_members(&address, &members));
        Ok(changed(change.await?))
    }

    async fn remove_alias_addresses(&self, request: Request<AliasAddressesRequest>) -> Answer<ChangeConfigResponse> {
        let request = request.into_inner();
        let (address, members): (Address, _) = (parsed(&request.address)?, addresses(&request.addresses)?);
        tracing::info!(%address, ?members, "removing addresses from an alias");
        let change = self
            .configuration
            .change(move |edit| edit.remove_members(&address, &members));
        Ok(changed(change.await?))
    }
}
