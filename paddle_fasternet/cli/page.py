"""``paddle-fasternet app``."""
from .. import app
from .._check import check_number
from ..data import is_recorded
from ..data.folder import base_of
from .options import add_engine, add_run, find_run, open_predictor


def add_commands(add):
    """Describe the command to the parser."""
    page = add("app", _app, "Serve a page: drop pictures, see the likeliest classes and what speaks for them.",
               "Three lines of Python ask the same: from gradio_client import Client, handle_file; "
               "client = Client('http://127.0.0.1:7860'); "
               "print(client.predict([handle_file('cat.png')], api_name='/classify'))")
    add_run(page)
    add_engine(page)
    page.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in "
                                                          "(default: %(default)s, this machine alone)")
    page.add_argument("--port", type=int, default=7860, metavar="N", help="0 takes any free one (default: %(default)s)")
    page.add_argument("--examples", default=None, metavar="FOLDER", help="pictures to try; default: some of those that "
                                                                         "the run was tested on, if they are there")
    page.add_argument("--top", type=int, default=5, metavar="N", help="classes in an answer (default: %(default)s)")
    page.add_argument("--samples", type=int, default=500, metavar="N", help="pictures with hidden parts that LIME "
                                                                            "tries (default: %(default)s)")
    page.add_argument("--max-megabytes", type=float, default=20, metavar="X", help="of one file (default: %(default)s)")


def _app(options):
    check_number("port", options.port, low=0, high=65535, integer=True)
    check_number("max_megabytes", options.max_megabytes, low=0.001)
    run = find_run(options)
    service = app.Service(open_predictor(options, run), run and run.model, options.top, options.samples)
    page = app.build(service, app.example_pictures(options.examples) if options.examples else _own_examples(run))
    app.serve(page, options.host, options.port, options.max_megabytes)


def _own_examples(run):
    """Pictures of the folder that a run was trained on; none where that is no folder or is not here."""
    if run is None or not is_recorded(run.data):
        return ()
    record = run.data["val_from"]
    folder = base_of(record["folder"], record["inside"])
    return app.example_pictures(folder) if folder.is_dir() else ()
