rule check:
    # what test sets do not tell: forgetting, symmetry, dimers, energy drift
    input:
        models=rules.merge.output,
        valid=rules.split.output.valid,
        e0s=rules.e0s.output,
        holdout=HOLDOUT,
    output:
        f"{RESULTS}/check/packs/{{pack}}.json",
    log:
        f"{RESULTS}/logs/check/{{pack}}.log",
    conda:
        ENV
    threads: 1
    params:
        files=check_flags,
        settings=check_settings(),
        code=code_of("check"),
    shell:
        "mace-lora check {params.files} --valid_file {input.valid:q} --e0s_file {input.e0s:q}"
        " {params.settings} --threads {threads} --receipt {output:q} 2> {log:q}"


rule shortlist:
    # the best points so far, and the foundation model to compare with
    input:
        errors=expand(rules.evaluate.output, pack=PACKS),
        trainings=expand(rules.train.output, pack=TRAINED),
        checks=expand(rules.check.output, pack=PACKS) if CHECKED else [],
    output:
        f"{RESULTS}/check/shortlist.json",
    log:
        f"{RESULTS}/logs/shortlist.log",
    conda:
        ENV
    params:
        results=subpath(output[0], ancestor=2),
        points=ALL_POINTS,
        cuts=CUTS,
        select=config["select"],
        winners=config["checks"]["winners"],
    script:
        "../workflow/scripts/shortlist.py"


rule thorough:
    # the long checks, of the shortlist only: heating, holes
    input:
        shortlist=rules.shortlist.output,
        valid=rules.split.output.valid,
        e0s=rules.e0s.output,
        holdout=HOLDOUT,
    output:
        f"{RESULTS}/check/thorough/receipt.json",
    log:
        f"{RESULTS}/logs/thorough.log",
    conda:
        ENV
    threads: 2
    params:
        settings=check_settings("thorough"),
        code=code_of("check"),
    shell:
        "mace-lora check --shortlist {input.shortlist:q} --valid_file {input.valid:q}"
        " --e0s_file {input.e0s:q} {params.settings}"
        " --threads {threads} --receipt {output:q} 2> {log:q}"
