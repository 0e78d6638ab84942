"""The model card: the passport in words, written as README.md into every model folder."""

from __future__ import annotations

from jinja2 import Environment, StrictUndefined

from isograft.passport import Passport

_TEMPLATE = """\
# {{ title }}

{% if p.kind == "classifier" -%}
A classifier of images into {{ p.classes | length }} classes: {{ p.classes | join(", ") }}.
{%- else -%}
A backbone: it turns an image into {{ p.backbone.features }} numbers, from which a classifier can be trained with few labels.
{%- endif %}

**Not a medical device.** It has been tested only as far as the figures of `isograft evaluate` say, on the data named there.

| | |
|---|---|
| network | {{ p.backbone.name }}{% for key, value in p.backbone.arguments.items() %}, {{ key }}={{ value }}{% endfor %} |
{% if p.head %}| head | {{ p.head }} |
{% endif -%}
| method | {{ p.method }} |
| input | {{ p.preprocess.image_size }} x {{ p.preprocess.image_size }} px RGB, mean {{ p.preprocess.mean | join(", ") }}, \
standard deviation {{ p.preprocess.std | join(", ") }} |
| started from | {{ start }} |
| made | {{ p.created }} |
| content hash | `{{ p.content_hash }}` |

## Data
{% for entry in p.data %}
- {{ entry.role | default("data") }}: {{ entry.name | default("unnamed") }}\
{% if entry.images is defined %}, {{ entry.images }} images{% endif %}\
{% if entry.groups is defined and entry.groups is not none %}, {{ entry.groups }} groups{% endif %}
{%- else %}
- not recorded
{%- endfor %}

`seen.parquet` lists the hashes of every image this model and its ancestors were trained or tuned on; `isograft evaluate` refuses them.

## Use

```
isograft show FOLDER
{% if p.kind == "classifier" -%}
isograft predict FOLDER IMAGES --out predictions.csv
{%- else -%}
isograft finetune LABELED_IMAGES --init FOLDER --out CLASSIFIER
{%- endif %}
```
{% if p.citations %}
## Please cite
{% for citation in p.citations %}
- {{ citation }}
{%- endfor %}
{% endif -%}
"""


def model_card(passport: Passport) -> str:
    """The card of a model, in Markdown.

    Args:
        passport: With its content hash.
    """
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701  (Markdown)
    source = passport.init.get("source") or "scratch"
    start = ", ".join(f"model {parent['content_hash'][:12]}" for parent in passport.parents) or source
    title = f"{passport.backbone.name} {passport.kind}, {passport.method}"
    return environment.from_string(_TEMPLATE).render(p=passport, title=title, start=start)
