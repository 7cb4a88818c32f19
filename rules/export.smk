rule export:
    # the chosen model for simulation engines, and the proof that they agree with it
    input:
        best=rules.report.output.best,
        models=rules.report.input.errors,
        valid=rules.split.output.valid,
    output:
        f"{RESULTS}/export/export.json",
    log:
        f"{RESULTS}/logs/export.log",
    conda:
        ENV
    threads: 1
    params:
        results=subpath(output[0], ancestor=2),
        settings=as_flags(config["export"]),
        code=code_of("export"),
    shell:
        "mace-lora export {params.results:q} {params.settings} --verify --threads {threads}"
        " --receipt {output:q} > {log:q} 2>&1"


rule card:
    # what the exported model is, how the engines did, and how to load it
    input:
        rules.export.output,
    output:
        report(
            f"{RESULTS}/report/card.html",
            caption="../workflow/report/card.rst",
            category="Choice",
            labels={"what": "the chosen model, exported"},
        ),
    log:
        f"{RESULTS}/logs/card.log",
    conda:
        ENV
    script:
        "../workflow/scripts/card.py"
