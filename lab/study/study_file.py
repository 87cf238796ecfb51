"""Study files: read, checked field by field, and cut into cases."""

from __future__ import annotations

import hashlib
import itertools
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from dcc_sim.errors import ConfigError as ProfileError
from dcc_sim.profile_files import is_profile_path, load_profile
from lab.study.cases import Case
from lab.study.errors import StudyFileError
from lab.study.networks import Network
from lab.study.own_time import check_own_times
from lab.study.parameters import Experiment, Route, Study, Workload

_FOLDER = Path(__file__).resolve().parent / "studies"
_MAX_CASES = 20_000
_TRIED_CEMS = 12

T = TypeVar("T", Route, Workload, Network)


def study_names() -> list[str]:
    """Return the names of the studies that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_study(study: str) -> Study:
    """Read a study.

    Args:
        study: the name of one that comes with the package, or the path of a TOML file.

    Raises:
        StudyFileError: there is none, it cannot be read, or is no study.
    """
    path = Path(study)
    if not (study.endswith(".toml") or "/" in study):
        path = _FOLDER / f"{study}.toml"
        if study not in study_names():
            raise StudyFileError(
                f"study {study!r}: no such study; there are {', '.join(study_names())}, "
                "or give the path of a .toml file"
            )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyFileError(f"{path}: cannot be read: {error}") from None
    return parse_study(text, where=str(path), folder=path.parent)


def parse_study(text: str, *, where: str, folder: Path) -> Study:
    """Read a study from text; paths in it become absolute.

    Args:
        text: TOML.
        where: what to call the text in errors.
        folder: what relative paths are relative to.

    Raises:
        StudyFileError: not TOML; something is missing, unknown, of the wrong kind or impossible.
    """
    try:
        study = msgspec.convert(tomllib.loads(text), Study)
    except msgspec.ValidationError as error:
        raise StudyFileError(
            f"{where}: {error} ($ is the whole file); `smtunnel study parameters` explains every "
            "parameter, `smtunnel study show quick` prints an example"
        ) from None
    except (ValueError, RecursionError) as error:
        # tomllib also lets numbers of too many digits and too deep nesting pass as they are.
        raise StudyFileError(f"{where}: not valid TOML: {error}") from None
    study = msgspec.structs.replace(
        study,
        workloads=tuple(_with_folder(one, where, folder) for one in study.workloads),
        networks=tuple(_with_profile(one, where, folder) for one in study.networks),
    )
    # Whatever is impossible in a varied value is told now, not after an hour.
    check_own_times(cases_of(study), where)
    return study


def tried(study: Study) -> Study:
    """Return a study that is over soon: does the file do what is meant?

    Few CEMs, one repetition, and of varied values the first and the last.
    """
    return msgspec.structs.replace(
        study,
        repetitions=1,
        bootstrap_resamples=min(study.bootstrap_resamples, 100),
        workloads=tuple(
            msgspec.structs.replace(one, cems=min(one.cems, _TRIED_CEMS)) for one in study.workloads
        ),
        experiments=tuple(
            msgspec.structs.replace(
                one,
                repetitions=1,
                vary={path: _tried_values(path, values) for path, values in one.vary.items()},
            )
            for one in study.experiments
        ),
    )


def _tried_values(path: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    if path == "workload.cems":
        values = tuple(min(value, _TRIED_CEMS) for value in values)
    return tuple(dict.fromkeys((values[0], values[-1])))


def study_text(study: str) -> str:
    """Return the text of a study that comes with the package.

    Raises:
        StudyFileError: there is none of this name.
    """
    load_study(study)
    return (_FOLDER / f"{study}.toml").read_text(encoding="utf-8")


def configuration_hash(study: Study) -> str:
    """Return the SHA-256 of everything that the results depend on, in hexadecimal."""
    return hashlib.sha256(msgspec.json.encode(study, order="sorted")).hexdigest()


def cases_of(study: Study) -> Iterator[Case]:
    """Yield all cases of a study, always in the same order.

    Raises:
        StudyFileError: a varied value is impossible, or there are too many cases.
    """
    number = 0
    for experiments in _together(study.experiments):
        cases: Iterator[Case] = itertools.chain.from_iterable(
            _cases_of(study, one) for one in experiments
        )
        if len(experiments) > 1:
            few = itertools.islice(cases, _MAX_CASES + 1)
            cases = iter(sorted(few, key=lambda case: case.repetition))
        for case in cases:
            if number == _MAX_CASES:
                raise StudyFileError(
                    f"study {study.name!r} has more than {_MAX_CASES} cases: vary less"
                )
            yield msgspec.structs.replace(case, number=number)
            number += 1


def _together(experiments: tuple[Experiment, ...]) -> list[list[Experiment]]:
    """Return what goes repetition by repetition: who asks for an own time, right behind it."""
    found: list[list[Experiment]] = []
    for experiment in experiments:
        if found and experiment.own_time == found[-1][0].name:
            found[-1].append(experiment)
        else:
            found.append([experiment])
    return found


def _cases_of(study: Study, experiment: Experiment) -> Iterator[Case]:
    routes = _chosen(study.routes, experiment.routes)
    workloads = _chosen(study.workloads, experiment.workloads)
    networks = _chosen(study.networks, experiment.networks)
    repetitions = experiment.repetitions or study.repetitions
    for engine, workload, network, settings, route in itertools.product(
        experiment.engines, workloads, networks, _settings(experiment), routes
    ):
        case = Case(
            experiment=experiment.name,
            engine=engine,
            route=_varied(route, "route", settings, experiment),
            workload=_varied(workload, "workload", settings, experiment),
            network=_varied(network, "network", settings, experiment),
            varied={path: str(value) for path, value in settings},
            study_seed=study.seed,
            deadlines_s=study.deadlines_s,
            rows=study.rows_per_case,
            own_time_of=experiment.own_time,
        )
        for repetition in range(repetitions):
            yield msgspec.structs.replace(case, repetition=repetition)


def _settings(experiment: Experiment) -> list[tuple[tuple[str, Any], ...]]:
    """Return which values are set together, case by case."""
    grid = [[(path, value) for value in values] for path, values in sorted(experiment.vary.items())]
    if experiment.one_at_a_time:
        return [(), *((setting,) for settings in grid for setting in settings)]
    return list(itertools.product(*grid))


def _chosen(of: tuple[T, ...], names: tuple[str, ...]) -> tuple[T, ...]:
    return tuple(one for one in of if not names or one.name in names)


def _varied(
    table: T, prefix: str, settings: tuple[tuple[str, Any], ...], experiment: Experiment
) -> T:
    own = {
        path.partition(".")[2]: value for path, value in settings if path.startswith(f"{prefix}.")
    }
    if not own:
        return table
    values = msgspec.to_builtins(table)
    try:
        for path, value in own.items():
            _set(values, path, value)
        # Checked once more, as if it had stood in the table itself.
        varied: T = msgspec.convert(values, type(table))
    except (msgspec.ValidationError, ValueError) as error:
        raise StudyFileError(
            f"experiment {experiment.name!r}, vary: {prefix} {table.name!r} with {own}: {error}"
        ) from None
    return varied


def _set(values: dict[str, Any], path: str, value: Any) -> None:
    """Set a value below a dotted path; one that has a standing is then assumed."""
    *places, name = path.split(".")
    for place in places:
        if not isinstance(values.get(place), dict):
            raise ValueError(f"there is no table {place!r} in which {name!r} could be varied")
        values = values[place]
    known = values.get(name)
    if isinstance(known, dict) and "standing" in known:
        value = {"value": value, "standing": "assumed", "source": "varied by the study"}
    values[name] = value


def _with_folder(workload: Workload, where: str, folder: Path) -> Workload:
    if workload.folder is None:
        return workload
    path = (folder / workload.folder).resolve()
    if not path.is_dir():
        raise StudyFileError(f"{where}: workload {workload.name!r}: {path} is no folder")
    return msgspec.structs.replace(workload, folder=str(path))


def _with_profile(network: Network, where: str, folder: Path) -> Network:
    name = network.profile
    if is_profile_path(name):
        name = str((folder / name).resolve())
    try:
        profile = load_profile(name)
    except ProfileError as error:
        raise StudyFileError(f"{where}: network {network.name!r}: {error}") from None
    for region in network.regions:
        if region not in profile.regions:
            raise StudyFileError(
                f"{where}: network {network.name!r}: profile {network.profile!r} has no region "
                f"{region!r}; it has {', '.join(profile.regions) or 'none'}"
            )
    return msgspec.structs.replace(network, profile=name)
