/** The worker of the page: a Trainer on WebAssembly. */

import { serve } from "gradport/worker";
import * as ort from "onnxruntime-web/wasm";

// More threads need SharedArrayBuffer, so headers that a plain static server does not send.
ort.env.wasm.numThreads = 1;
serve(ort);
