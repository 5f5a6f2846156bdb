//! SIGHUP: configuration and key are read again, and a broken file changes nothing.

use super::Scheduler;
use crate::daemon::{Reloaded, chain, client_of};
use std::sync::Arc;

impl Scheduler {
    pub(super) fn reload(&mut self) {
        let Some(reload) = &mut self.options.reload else { return };
        let loaded = reload().and_then(|Reloaded { config, key }| {
            let client =
                client_of(&config, key, self.context.clock()).map_err(|error| chain(&error))?;
            Ok((config, client))
        });
        match loaded {
            Err(error) => tracing::error!("not reloaded, the old configuration stays: {error}"),
            Ok((mut config, client)) => {
                for key in self.config.frozen_changes(&config) {
                    tracing::warn!("{key} changes only with a restart");
                }
                config.database.clone_from(&self.config.database);
                self.resize(config.max_in_flight);
                self.config = Arc::new(config);
                self.client = client;
                self.new_config = Some(Arc::clone(&self.config));
                self.forecaster.forget();
                tracing::info!("reloaded");
            }
        }
    }

    fn resize(&mut self, max_in_flight: u32) {
        let (old, new) = (self.config.max_in_flight as usize, max_in_flight as usize);
        let returned = self.surplus.min(new.saturating_sub(old));
        self.surplus = self.surplus - returned + old.saturating_sub(new);
        self.context.permits.add_permits(new.saturating_sub(old) - returned);
    }
}
