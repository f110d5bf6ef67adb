"""Jobs: trainings and downloads in the background, their status, progress and estimated duration.

Example:
    >>> import dmpo_explore as dx
    >>> job = dx.jobs.start(dx.Config(), "mine")  # doctest: +SKIP
    >>> dx.jobs.job_status(job).state  # doctest: +SKIP
    'running'
    >>> dx.jobs.fetchable("data", "caltech101").command
    'dmpo-explore fetch --data caltech101'
"""

from typing import TYPE_CHECKING

from ..utils.lazy import public_names

if TYPE_CHECKING:
    from .downloads import Download as Download
    from .downloads import DownloadStatus as DownloadStatus
    from .downloads import Fetchable as Fetchable
    from .downloads import download_status as download_status
    from .downloads import fetchable as fetchable
    from .downloads import find_download as find_download
    from .downloads import start_download as start_download
    from .downloads import stop_download as stop_download
    from .estimate import Estimate as Estimate
    from .estimate import Rates as Rates
    from .estimate import estimate_training as estimate_training
    from .estimate import probe as probe
    from .jobs import DELETED as DELETED
    from .jobs import FAILED as FAILED
    from .jobs import FINISHED as FINISHED
    from .jobs import RUNNING as RUNNING
    from .jobs import STOPPED as STOPPED
    from .jobs import STOPPING as STOPPING
    from .jobs import Job as Job
    from .jobs import Status as Status
    from .jobs import check_name as check_name
    from .jobs import check_ready as check_ready
    from .jobs import forget as forget
    from .jobs import job_status as job_status
    from .jobs import list_jobs as list_jobs
    from .jobs import load_job as load_job
    from .jobs import measure as measure
    from .jobs import resume as resume
    from .jobs import start as start
    from .jobs import stop as stop
    from .progress_file import Progress as Progress
else:
    __getattr__, __dir__, __all__ = public_names(__name__, __file__)
