"""The routes that change something: chosen files, plans, uploads, retries, and variants of jobs."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ops.act import actions
from ops.act.sender import Sender, Upload
from ops.console import sending
from ops.console.feed import Feed
from ops.console.pictures import Pictures
from ops.console.requests import agreed_price, in_thread, read_body, texts
from ops.console.staging import Staging, TooLarge
from ops.errors import NotFound
from ops.inspect.drops import Drop, accepted, plan_drops, total
from ops.inspect.folders import arrange
from ops.inspect.plan import Plan
from ops.stack import Stack
from posedrop.aws.record import AnyRecord

MOST_PATHS = 20_000
"""The most paths in one request."""
MOST_JOBS = 1000
"""The most jobs in one request."""
CLOSELY_WATCHED = 3
"""After an upload of at most this many characters, all jobs of these characters are read again for a while."""
IMMUTABLE = "private, max-age=31536000, immutable"


class Acting:
    """The routes of one stack's console that change something. `patient` is the stack with clients of long timeouts."""

    def __init__(self, stack: Stack, patient: Stack, feed: Feed, pictures: Pictures) -> None:
        self._stack = stack
        self._feed = feed
        self._pictures = pictures
        self.staging = Staging()
        self.uploads: dict[str, Upload] = {}
        self.tasks: TaskGroup
        self._token: Any = None
        self._sender = Sender(patient, self._report)
        self._decoders = anyio.CapacityLimiter(3)
        self._senders = anyio.CapacityLimiter(2)
        self._planner = anyio.CapacityLimiter(1)

    def routes(self) -> list[Route]:
        """Return all of these routes."""
        post = ["POST"]
        return [
            Route("/api/arrange", self.arrange, methods=post),
            Route("/api/files", self.file, methods=post),
            Route("/api/files/{sha256:str}", self.thumbnail),
            Route("/api/plan", self.plan, methods=post),
            Route("/api/uploads", self.upload, methods=post),
            Route("/api/uploads", self.under_way),
            Route("/api/uploads/{upload_id:str}/resume", self.resume, methods=post),
            Route("/api/uploads/{upload_id:str}/discard", self.discard, methods=post),
            Route("/api/edit", self.edit, methods=post),
            Route("/api/retry", self.retry_all, methods=post),
            Route("/api/jobs/{job_id:path}/retry", self.retry, methods=post),
            Route("/api/jobs/{job_id:path}/again", self.again, methods=post),
        ]

    def close(self) -> None:
        """Stop the uploads, and remove the staged files."""
        self._sender.stop()
        self.staging.close()

    # ---- new jobs ----------------------------------------------------------------------------------------------------

    async def arrange(self, request: Request) -> Response:
        """Arrange files into characters, by their paths."""
        paths = texts(await read_body(request), "paths", MOST_PATHS)
        found = arrange(paths, self._stack.layout)
        return JSONResponse(
            {
                "characters": [
                    {
                        "name": each.name,
                        "face": None if each.face is None else paths[each.face],
                        "poses": [{"path": paths[number], "name": name} for number, name in each.poses.items()],
                        "parameters": {name: paths[number] for name, number in each.parameters.items()},
                    }
                    for each in found.characters
                ],
                "left_out": [{"path": paths[left.number], "why": left.why} for left in found.left_out if not left.side],
                "side_files": sum(left.side for left in found.left_out),
            }
        )

    async def file(self, request: Request) -> Response:
        """Stage a chosen file, and return its SHA-256. Later requests name the file by this hash."""
        size = request.headers.get("content-length", "")
        if not size.isdecimal():
            raise HTTPException(411, "the size of the file is not known")
        try:
            kept = await self.staging.receive(request.stream(), int(size))
        except TooLarge as exc:
            raise HTTPException(413, str(exc)) from exc
        return JSONResponse({"sha256": kept.sha256, "bytes": kept.size})

    async def thumbnail(self, request: Request) -> Response:
        """Return a staged file as a small picture, upright."""
        sha256 = request.path_params["sha256"]
        staged = self.staging.get([sha256])[sha256]
        size = "large" if request.query_params.get("size") == "large" else "thumb"
        made = await to_thread.run_sync(partial(self._pictures.staged, staged, size), limiter=self._decoders)
        return Response(made.data, media_type=made.content_type, headers={"Cache-Control": IMMUTABLE})

    async def plan(self, request: Request) -> Response:
        """Plan an upload: return its jobs, their cost and the refused files. Nothing is uploaded."""
        wanted, planned = await self._plan(await read_body(request))
        refused = [refused for drop in wanted for refused in drop.refused]
        jobs = sending.summary(planned, self._stack.layout)
        return JSONResponse({"jobs": jobs, "usd": total(planned), "refused": refused})

    async def upload(self, request: Request) -> Response:
        """Start an upload at the agreed price. `upload` events report its progress."""
        body = await read_body(request)
        wanted, planned = await self._plan(body)
        return self._begin(wanted, planned, agreed_price(body))

    def _begin(self, wanted: Sequence[Drop], planned: Sequence[Plan], agreed: float) -> Response:
        files = accepted(wanted, planned, agreed)
        hashes = [sha256 for file in files.values() if (sha256 := getattr(file, "sha256", ""))]
        upload = Upload(files, hashes, self._stack.layout)
        self.staging.pin(upload.hashes)
        self.uploads[upload.upload_id] = upload
        jobs = sending.summary(planned, self._stack.layout)
        self._feed.expect([job["job_id"] for job in jobs if job["job_id"] and job["outcome"] in ("new", "waiting")])
        for drop in wanted if len(wanted) <= CLOSELY_WATCHED else ():
            self._feed.watch(drop.character)
        self._feed.events.publish("upload", upload.standing())
        self.tasks.start_soon(self._sending, upload)
        return JSONResponse({"upload": upload.upload_id, "files": len(files), "jobs": jobs}, 202)

    async def _sending(self, upload: Upload) -> None:
        self._token = anyio.lowlevel.current_token()
        await to_thread.run_sync(self._sender.send, upload, limiter=self._senders)
        if upload.state == "done":
            self._forget(upload)

    def _forget(self, upload: Upload) -> None:
        if self.uploads.pop(upload.upload_id, None):
            self.staging.release(upload.hashes)

    def _report(self, standing: dict[str, Any]) -> None:
        # The sender's threads call this; the event loop may have ended by then.
        with suppress(RuntimeError, anyio.RunFinishedError):
            anyio.from_thread.run_sync(self._feed.events.publish, "upload", standing, token=self._token)

    async def under_way(self, _request: Request) -> Response:
        """Return the uploads that are not done: running or stopped."""
        # An upload is "done" shortly before it is removed from this list.
        return JSONResponse([upload.standing() for upload in self.uploads.values() if upload.state != "done"])

    def _upload(self, request: Request) -> Upload:
        found = self.uploads.get(request.path_params["upload_id"])
        if found is None:
            raise NotFound("this upload is over or was discarded")
        return found

    async def resume(self, request: Request) -> Response:
        """Resume a stopped upload at the file where it stopped."""
        upload = self._upload(request)
        if upload.state == "stopped":
            upload.state = "running"
            self.tasks.start_soon(self._sending, upload)
        return JSONResponse(upload.standing(), 202)

    async def discard(self, request: Request) -> Response:
        """Discard a stopped upload. The files that were already uploaded stay in the bucket."""
        upload = self._upload(request)
        if upload.state != "stopped":
            raise HTTPException(409, "the upload is still running")
        self._forget(upload)
        self._feed.events.publish("upload", {**upload.standing(), "state": "discarded"})
        return JSONResponse({})

    async def _plan(self, body: dict[str, Any]) -> tuple[list[Drop], list[Plan]]:
        wanted = sending.drops(self.staging, self._stack, body)
        return wanted, await to_thread.run_sync(partial(plan_drops, self._stack, wanted), limiter=self._planner)

    # ---- retries and variants ----------------------------------------------------------------------------------------

    async def retry(self, request: Request) -> Response:
        """Retry a failed job. Without `confirm`, only return the question to ask and the cost."""
        body = await read_body(request)
        wanted, asks = await in_thread(sending.ask_retry, self._stack, request.path_params["job_id"])
        if body.get("confirm") is not True:
            return JSONResponse({"asks": asks, "usd": wanted.usd, "unknown": wanted.error_type == sending.UNKNOWN})
        await in_thread(partial(actions.retry, self._stack, [wanted], buy_again=body.get("buy_again") is True))
        return JSONResponse({"job_id": wanted.job_id, "attempt": wanted.attempt}, 202)

    async def retry_all(self, request: Request) -> Response:
        """Retry the failed jobs among the given ones. Without `confirm`, only return their number and cost."""
        body = await read_body(request)
        found = await in_thread(sending.plan_retries, self._stack, texts(body, "jobs", MOST_JOBS))
        if body.get("confirm") is not True:
            return JSONResponse({"jobs": len(found.retries), "usd": found.usd, "refused": found.refused})
        await in_thread(actions.retry, self._stack, found.retries)
        return JSONResponse({"jobs": len(found.retries)}, 202)

    async def again(self, request: Request) -> Response:
        """Make a job's face and pose with other seeds. Without `confirm`, only return the seeds and the cost."""
        body = await read_body(request)
        seeds = sending.seeds_of(body)
        if seeds is None:
            raise HTTPException(
                400, f"name a whole number of at most 63 bits, or a count from 1 to {sending.MOST_SEEDS}"
            )
        record = await self._record(request.path_params["job_id"])
        described = await in_thread(sending.once_more, self._stack, self.staging, record, seeds)
        wanted, planned = await self._plan({"characters": described})
        (plan,) = planned
        sending.check_new(plan)
        if body.get("confirm") is not True:
            return JSONResponse({"usd": plan.usd, "seeds": seeds, "character": plan.jobs[0].character})
        agreed = agreed_price(body) if "usd" in body else plan.usd
        return self._begin(wanted, planned, agreed)

    async def edit(self, request: Request) -> Response:
        """Describe jobs in the form that `plan` and `upload` take, so that they can be changed and sent again."""
        wanted = texts(await read_body(request), "jobs", MOST_JOBS)
        records = [await self._record(job_id) for job_id in wanted]
        names: dict[str, set[str]] = {}
        for record in (await self._feed.known()).records.values():
            names.setdefault(record.character, set()).add(record.pose)
        return JSONResponse(await in_thread(sending.edit, self._stack, self.staging, records, names))

    async def _record(self, job_id: str) -> AnyRecord:
        record = (await self._feed.known()).records.get(job_id) or await in_thread(self._stack.record, job_id)
        if record is None:
            raise NotFound(f"there is no job {job_id}")
        return record
