# Each point's own files, beside the receipts of the packs.
METRICS = f"{RESULTS}/train/{{point}}/metrics.jsonl"
PARITY = f"{RESULTS}/evaluate/{{point}}.parquet"


rule committee:
    # the LoRA points as an ensemble: does their spread follow their error?
    input:
        errors=expand(rules.evaluate.output, pack=PACKS),
        trainings=expand(rules.train.output, pack=TRAINED),
    output:
        measured=f"{RESULTS}/report/committee.json",
        figure=report(
            f"{RESULTS}/report/committee.svg",
            caption="../workflow/report/committee.rst",
            category="Errors",
            labels={"what": "spread of the committee"},
        ),
    log:
        f"{RESULTS}/logs/committee.log",
    conda:
        ENV
    params:
        parity=expand(PARITY, point=COMMITTEE),
    script:
        "../workflow/scripts/committee.py"


rule report:
    # the table of points, the chosen one, and what to do next
    input:
        errors=expand(rules.evaluate.output, pack=PACKS),
        trainings=expand(rules.train.output, pack=TRAINED),
        e0s=rules.e0s.output,
        checks=expand(rules.check.output, pack=PACKS) if CHECKED else [],
        thorough=rules.thorough.output if THOROUGH else [],
        committee=[rules.committee.output.measured] if COMMITTEE else [],
    output:
        table=f"{RESULTS}/report/sweep.csv",
        choice=report(
            f"{RESULTS}/report/choice.html",
            caption="../workflow/report/choice.rst",
            category="Choice",
            labels={"what": "what won, and by how much"},
        ),
        html=report(
            f"{RESULTS}/report/sweep.html",
            caption="../workflow/report/table.rst",
            category="Choice",
            labels={"what": "every point"},
        ),
        checks=report(
            f"{RESULTS}/report/checks.html",
            caption="../workflow/report/checks.rst",
            category="Choice",
            labels={"what": "checks of every point"},
        ),
        best=f"{RESULTS}/report/best.json",
        summary=f"{RESULTS}/report/summary.txt",
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        ENV
    params:
        results=subpath(output.table, ancestor=2),
        points=ALL_POINTS,
        select=config["select"],
        cuts=CUTS,
        gpus=config["pack"]["gpus"],
    script:
        "../workflow/scripts/choice.py"


rule tables:
    # what it cost, the new E0s, the split
    input:
        table=rules.report.output.table,
        e0s=rules.e0s.output[0],
        split=rules.split.output.summary,
    output:
        cost=report(
            f"{RESULTS}/report/cost.html",
            caption="../workflow/report/cost.rst",
            category="Training",
            labels={"what": "time, memory, GPU hours"},
        ),
        e0s=report(
            f"{RESULTS}/report/e0s.html",
            caption="../workflow/report/e0s.rst",
            category="Data",
            labels={"what": "atomic reference energies"},
        ),
        split=report(
            f"{RESULTS}/report/split.html",
            caption="../workflow/report/split.rst",
            category="Data",
            labels={"what": "training, validation and test sets"},
        ),
    log:
        f"{RESULTS}/logs/tables.log",
    conda:
        ENV
    script:
        "../workflow/scripts/tables.py"


rule figures:
    # heat maps, learning curves, parity plots; the numbers behind each lie beside it as csv
    input:
        table=rules.report.output.table,
        best=rules.report.output.best,
        checks=rules.report.output.checks,
        trainings=expand(rules.train.output, pack=TRAINED),
    output:
        heatmap=report(
            f"{RESULTS}/report/heatmap.svg",
            caption="../workflow/report/heatmap.rst",
            category="Choice",
            labels={"what": "rank x alpha"},
        ),
        forgetting=report(
            f"{RESULTS}/report/forgetting.svg",
            caption="../workflow/report/forgetting.rst",
            category="Choice",
            labels={"what": "error against forgetting"},
        ),
        parameters=report(
            f"{RESULTS}/report/parameters.svg",
            caption="../workflow/report/parameters.rst",
            category="Choice",
            labels={"what": "error against trainable parameters"},
        ),
        curves=report(
            f"{RESULTS}/report/learning_curves.svg",
            caption="../workflow/report/learning_curves.rst",
            category="Training",
            labels={"what": "learning curves"},
        ),
        parity=report(
            f"{RESULTS}/report/parity.svg",
            caption="../workflow/report/parity.rst",
            category="Errors",
            labels={"what": "parity of the chosen model"},
        ),
        spectrum=report(
            f"{RESULTS}/report/spectrum.svg",
            caption="../workflow/report/spectrum.rst",
            category="Training",
            labels={"what": "singular values"},
        ),
    log:
        f"{RESULTS}/logs/figures.log",
    conda:
        ENV
    params:
        metrics=expand(METRICS, point=POINTS),
        parity=expand(PARITY, point=ALL_POINTS),
    script:
        "../workflow/scripts/figures.py"


rule data_size:
    # errors against the number of training structures
    input:
        table=rules.report.output.table,
    output:
        curve=report(
            f"{RESULTS}/report/data_size.svg",
            caption="../workflow/report/data_size.rst",
            category="Choice",
            labels={"what": "error against training structures"},
        ),
    log:
        f"{RESULTS}/logs/data_size.log",
    conda:
        ENV
    script:
        "../workflow/scripts/data_size.py"
