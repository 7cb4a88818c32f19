"""Know what Slurm says: what passes by itself, what never does, and what to do about it."""

import re

# refusals of sbatch that are nobody's fault: the same submission is taken later
PASSING = re.compile(
    r"unable to contact slurm controller|socket timed out|connection (refused|reset|timed out)"
    r"|maxsubmitjob|grpsubmitjob|temporarily un(able|available)|zero bytes were transmitted"
    r"|standby mode|slurm_persist_conn|unexpected message received|transport endpoint",
    re.IGNORECASE,
)
FULL = re.compile(r"maxsubmitjob|grpsubmitjob", re.IGNORECASE)

PROFILE = "in the profile's config.yaml"
REFUSALS = {
    r"grouping resources": "rules of a group (groups) need the same slurm_partition, constraint "
    f"and slurm_extra; set them so {PROFILE}, or take a rule out of the group",
    r"partition": f"set slurm_partition {PROFILE}; sinfo -o '%P %l %G' names them",
    r"account": f"set slurm_account {PROFILE}; sacctmgr show associations user=$USER "
    "format=account,partition names yours",
    r"qos": f"set qos {PROFILE}; sacctmgr show associations user=$USER format=account,qos "
    "names yours",
    r"gres": f"set gpu or gres {PROFILE}; sinfo -o '%P %G' shows the GPUs of each partition",
    r"node configuration|memory|cpu count": "no node of that partition has so many CPUs, GPUs or "
    f"so much memory: set slurm_partition, mem_mb, gpu or threads {PROFILE}; "
    "sinfo -o '%P %c %m %G' shows what nodes have",
    r"time limit": f"set runtime {PROFILE}; sinfo -o '%P %l' shows the longest",
    r"feature|constraint": f"set constraint {PROFILE}; sinfo -o '%P %f' shows features",
}
# reasons for which a job waits and that do not pass by themselves
STUCK = {
    r"PartitionTimeLimit|MaxWallDuration": "it asks for more time than it may have: set a smaller "
    f"runtime {PROFILE}, cancel it (scancel) and it is submitted again",
    r"PartitionNodeLimit|PartitionConfig|BadConstraints": "its partition has no such nodes: change "
    f"slurm_partition, mem_mb or gpu {PROFILE}, cancel it and start again",
    r"PartitionDown|PartitionInactive": "its partition takes no jobs now: ask the site, or set "
    f"another slurm_partition {PROFILE}, cancel it and start again",
    r"JobHeld|held": "it is held: scontrol release and the number of the job, or ask who held it",
    r"DependencyNeverSatisfied": "it waits for a job that failed: cancel it (scancel)",
    r"InvalidAccount|InvalidQOS|QOSNotAllowed|AccountNotAllowed": "account or QOS may not be used "
    f"there: set slurm_account or qos {PROFILE}, cancel it and start again",
    r"Grp\w*Minutes": "the hours of the account are used up: ask for more, or set another "
    f"slurm_account {PROFILE}",
    r"Max\w*(PerJob|PerNode)": f"it asks for more than a job may have: ask for less {PROFILE}, "
    "cancel it and start again",
}


def passes(said: str) -> bool:
    """Return True for a refusal of sbatch after which the same submission is taken later."""
    return bool(PASSING.search(said))


def first_line(said: str) -> str:
    """Return what Slurm said, in one line without the names of its commands."""
    lines = [re.sub(r"^\w+: (error: )?", "", x).strip() for x in said.splitlines()]
    return ": ".join(dict.fromkeys(x for x in lines if x)) or "no reason"


def remedy(said: str) -> str:
    """Return what to do about a refusal of sbatch."""
    found = [text for pattern, text in REFUSALS.items() if re.search(pattern, said, re.IGNORECASE)]
    return found[0] if found else f"look at the resources of that rule {PROFILE}"


def stuck(reason: str) -> str:
    """Return what to do about a job that waits for a reason; "" where the reason passes."""
    return next((text for pattern, text in STUCK.items() if re.search(pattern, reason)), "")
