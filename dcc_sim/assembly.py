"""What outlives a restart of the DCC in one process: keys, storage, the network, the faults."""

from __future__ import annotations

from collections.abc import Sequence

from dcc_sim.config import DccSimConfig
from dcc_sim.core.dcc import Dcc
from dcc_sim.core.faults import Fault, Faults
from dcc_sim.core.keys import Keys
from dcc_sim.core.network import NetworkProfile
from dcc_sim.core.sm_wan import Surroundings
from dcc_sim.profile_files import load_profile
from dcc_sim.randomness import SeededStreams
from dcc_sim.store import SqliteStore
from gbcs.duis import Schema
from gbcs.keystore import KeyStore
from gbcs.ports import Journal


class Assembly:
    """Puts the logic together, as often as wanted, from one state.

    Args:
        config: settings.
        keystore: certificates of users and devices; keys of the DCC.
        schema: the DUIS schema, if all that comes and goes is to be validated.
        journal: gets every message.
        profile: the network between DCC and devices, instead of config.network.
        scenario: faults that come at their times.

    Raises:
        ConfigError: there is no such network profile.
        StoreError: the state cannot be opened.
        gbcs.errors.CertificateError: a key of the DCC is missing.
    """

    def __init__(
        self,
        config: DccSimConfig,
        keystore: KeyStore,
        *,
        schema: Schema | None,
        journal: Journal,
        profile: NetworkProfile | None,
        scenario: Sequence[Fault],
    ) -> None:
        self.faults = Faults(scenario)
        self.keys = Keys(keystore, config.dcc_id)
        self._config = config
        self._schema = schema
        self._journal = journal
        if profile is None:
            profile = load_profile(config.network)
        streams = SeededStreams(config.network_seed)
        self._surroundings = Surroundings(profile, streams, self.faults)
        self.storage = SqliteStore(config.state)

    def make_dcc(self, now: float) -> Dcc:
        """Make the logic from what is durable.

        Args:
            now: seconds since 1970.

        Raises:
            StoreError: the state cannot be read.
            ConfigError: the inventory does not fit the network.
        """
        return Dcc(
            self._config,
            self.keys,
            self.storage,
            schema=self._schema,
            journal=self._journal,
            surroundings=self._surroundings,
            now=now,
        )

    def close(self) -> None:
        """Close the storage."""
        self.storage.close()
