rule truncate:
    # the adapter of the highest rank cut to a lower one by SVD (rank_curve)
    input:
        adapter=uncut_files,
        foundation=FOUNDATION_FILE,
    output:
        spectrum=f"{RESULTS}/truncate/{{point}}/spectrum.json",
    log:
        f"{RESULTS}/logs/truncate/{{point}}.log",
    conda:
        ENV
    threads: 1
    params:
        out=subpath(output.spectrum, parent=True),
        foundation=FOUNDATION_FLAGS,
        source=truncate_flags,
        code=code_of("truncate"),
    shell:
        "mace-lora truncate {params.foundation} {params.source}"
        " --threads {threads} --out {params.out:q} 2> {log:q}"


rule rank_curve:
    # trained ranks against cut ones
    input:
        table=f"{RESULTS}/report/sweep.csv",
    output:
        curve=report(
            f"{RESULTS}/report/rank_curve.svg",
            caption="../workflow/report/rank_curve.rst",
            category="Choice",
            labels={"what": "trained against cut ranks"},
        ),
    log:
        f"{RESULTS}/logs/rank_curve.log",
    conda:
        ENV
    script:
        "../workflow/scripts/rank_curve.py"
