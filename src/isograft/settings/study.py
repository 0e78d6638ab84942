"""Options of the study."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from isograft.settings.base import NEW_FILE, POSITIONAL, Settings, given_option


class StudySettings(Settings):
    """Options of `study`."""

    study: Path | None = Field(None, description="The study file (YAML); --init writes a template.", json_schema_extra=POSITIONAL)
    out: Path | None = Field(None, description="The folder to write: results.parquet, report.html, and each job's output.")
    init: Path | None = Field(
        None, description="Write a commented template of a study file here, and nothing else.", json_schema_extra=NEW_FILE
    )
    preset: str | None = Field(None, description="Preset of the study file to apply, for example fast.")
    param: tuple[str, ...] = Field((), description="Parameter of the study file as name=value, for example data=/images; repeatable.")
    jobs: int | None = Field(None, ge=1, description="Jobs at a time, each in its own process [default: one per core].")
    engine: Literal["local", "ray"] = Field("local", description="Where jobs run: on this machine, or on a Ray cluster.")
    dry_run: bool = Field(False, description="List the jobs and what is left out, and run nothing.")
    resume: bool = Field(False, description="Continue the study in --out; finished jobs are kept.")
    cache_dir: Path | None = Field(None, description="Folder for decoded images, safe to delete [default: ~/.cache/isograft].")

    @model_validator(mode="after")
    def _one_thing(self) -> StudySettings:
        if self.init is not None:
            for name, field in type(self).model_fields.items():
                if name != "init" and (value := getattr(self, name)) != field.default:
                    what = f"STUDY {value}" if name == "study" else given_option(name, value)
                    raise ValueError(f"{what} would be unused with --init, which only writes a template; leave one of them out")
            if self.init.suffix.lower() not in {".yaml", ".yml"}:
                raise ValueError(f"--init {self.init} must end in .yaml or .yml")
        elif self.study is None:
            raise ValueError("STUDY is required: the study file; isograft study --init study.yaml writes a template of one")
        elif self.out is None and not self.dry_run:
            raise ValueError("--out is required: the folder to write; --dry-run only lists the jobs and needs none")
        return self

    @model_validator(mode="after")
    def _named_values(self) -> StudySettings:
        names = [pair.partition("=")[0].strip() for pair in self.param]
        for index, (pair, name) in enumerate(zip(self.param, names, strict=True)):
            if not name or "=" not in pair:
                raise ValueError(f"--param {pair} is not name=value; write for example --param data=/images")
            if name in names[:index]:
                raise ValueError(f"--param gives {name} twice; keep one")
        return self
