"""Metrics of membership, placement, couriers and conflicts, collected when somebody looks.

What lies in the database is read by ``refresh`` just before; everything else as it is.  Series are
bounded by the members, their sites and the placement rules that a report tells apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mesh.service import Mesh
from mesh.shell.faults import FAULTS
from node.core import Core
from node.placement.report import Amount, Distance
from store.conflicts import Count
from store.standing import AuthorStatus

KINDS = ("wanted", "held", "missing", "surplus")


class MeshMetrics(Collector):
    """What this node knows of its mesh, besides links and transfers."""

    def __init__(self, core: Core, mesh: Mesh) -> None:
        self._core, self._mesh = core, mesh
        self._disputed: Sequence[Count] = ()
        self._authors: Sequence[AuthorStatus] = ()
        self._reports: dict[str, Distance] = {}

    def describe(self) -> Iterable[Metric]:
        """Tell nothing before the mesh runs."""
        return ()

    async def refresh(self) -> None:
        """Read what lies in the database.  Raises RegistryError."""
        self._disputed = await self._core.conflicts.counts()
        self._authors = await self._core.ledger.authors_status()
        self._reports = await self._core.placer.reports()

    def collect(self) -> Iterator[Metric]:
        """Look at everything as it is now."""
        return chain(
            self._membership(), self._ledgers(), self._placement(), self._couriers(), self._rivals()
        )

    def _membership(self) -> Iterator[Metric]:
        authority = self._core.ledger.authority
        members = authority.members()
        sites = Counter(member.site for member in members.values())
        family = GaugeMetricFamily("atoll_mesh_members", "Members by site", labels=["site"])
        for site, number in sorted(sites.items()):
            family.add_metric([site], number)
        yield family
        roles = Counter(role for member in members.values() for role in member.roles)
        family = GaugeMetricFamily("atoll_mesh_roles", "Members by role", labels=["role"])
        for role, number in sorted(roles.items()):
            family.add_metric([role], number)
        yield family
        absent = len(self._core.placer.absent & members.keys())
        for name, text, value in (
            ("linked", "Members linked with this node", len(self._mesh.linked())),
            ("absent", "Members that gave no sign of life for too long", absent),
            ("evicted", "Nodes that were evicted", len(authority.evicted())),
            ("root_version", "Version of the root document in force", authority.version),
            ("root_contested", "1 while rival root documents are in force", authority.contested),
        ):
            yield GaugeMetricFamily(f"atoll_mesh_{name}", text, value=float(value))
        text = "Faults of this program that ended a task for one peer, by task"
        faults = CounterMetricFamily("atoll_mesh_faults", text, labels=["task"])
        for task, number in sorted(FAULTS.counts.items()):
            faults.add_metric([task], number)
        yield faults

    def _ledgers(self) -> Iterator[Metric]:
        peers = self._mesh.peers()
        for name, text, value in (
            ("behind", "Records that linked members have and we lack", _most(peers, "behind")),
            ("ahead", "Records that some linked member lacks", _most(peers, "ahead")),
            ("held", "Records that wait to count", sum(each.held for each in self._authors)),
            ("refused", "Records that do not count", sum(each.refused for each in self._authors)),
            (
                "forked",
                "Authors whose ledger forks",
                sum(each.forked is not None for each in self._authors),
            ),
        ):
            yield GaugeMetricFamily(f"atoll_ledger_{name}", text, value=float(value))

    def _placement(self) -> Iterator[Metric]:
        placer = self._core.placer
        own = placer.distance()
        for unit in ("blobs", "bytes"):
            family = GaugeMetricFamily(
                f"atoll_placement_{unit}",
                f"What belongs here and is, by rule, in {unit}",
                labels=["rule", "state"],
            )
            for rule in own.rules:
                for kind in KINDS:
                    family.add_metric([rule.rule, kind], _of(getattr(rule, kind), unit))
            family.add_metric(["", "cached"], _of(own.cached, unit))
            family.add_metric(["", "unnamed"], _of(own.other, unit))
            yield family
            family = GaugeMetricFamily(
                f"atoll_placement_missing_{unit}",
                f"What members say they still lack, in {unit}",
                labels=["node"],
            )
            for node, said in self._reports.items():
                family.add_metric([node[:8]], _of(said.missing, unit))
            yield family
        rate = "Bytes per second of repair, of late"
        yield GaugeMetricFamily("atoll_placement_repair_rate", rate, value=own.speed)
        repaired = placer.repair.fetched if placer.repair is not None else 0
        yield CounterMetricFamily("atoll_placement_fetched_bytes", "Bytes repaired", value=repaired)
        budget = "Bytes that blobs may take; 0: no bound"
        limit = self._core.config.blobs.budget
        yield GaugeMetricFamily("atoll_blobs_budget_bytes", budget, value=limit)
        evictor = placer.evictor
        blobs, freed = (evictor.evicted, evictor.freed) if evictor is not None else (0, 0)
        yield CounterMetricFamily("atoll_evicted_blobs", "Blobs let go of for room", value=blobs)
        yield CounterMetricFamily("atoll_evicted_bytes", "Bytes freed so", value=freed)

    def _couriers(self) -> Iterator[Metric]:
        couriers = self._mesh.couriers
        cargo, counts = couriers.cargo, couriers.cargo.counts
        for name, text, value in (
            ("active", "1 if this node carries for others", int(couriers.carrying)),
            ("budget_bytes", "Bytes that may lie here only to be carried", cargo.budget),
            ("used_bytes", "Bytes of that in use", cargo.used),
            ("carried_blobs", "Blobs carried", len(cargo.carried)),
            ("wishes", "Wishes known", cargo.count),
            ("lacking_blobs", "Asked for here in vain of late", len(couriers.waits.blobs)),
        ):
            yield GaugeMetricFamily(f"atoll_courier_{name}", text, value=value)
        family = CounterMetricFamily(
            "atoll_courier_blobs", "What became of cargo", labels=["outcome"]
        )
        for outcome in ("loaded", "delivered", "expired", "displaced", "refused"):
            family.add_metric([outcome], getattr(counts, outcome))
        yield family
        taken = "Bytes taken on"
        yield CounterMetricFamily("atoll_courier_loaded_bytes", taken, value=counts.loaded_bytes)

    def _rivals(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "atoll_conflicts", "What concurrent writes left to be decided", labels=["kind"]
        )
        for kind in ("files", "pointers", "pending"):
            family.add_metric([kind], sum(getattr(each, kind) for each in self._disputed))
        yield family
        yield GaugeMetricFamily(
            "atoll_conflict_repositories",
            "Repositories in which something is disputed or pending",
            value=len(self._disputed),
        )


def _of(amount: Amount, unit: str) -> float:
    return float(getattr(amount, unit))


def _most(peers: Sequence[object], field: str) -> int:
    return max((int(getattr(peer, field)) for peer in peers), default=0)
