/** The part of onnxruntime-web and onnxruntime-node that a Trainer uses. The caller passes the module. */

export interface Tensor {
  readonly type: string;
  readonly data: unknown;
  readonly dims: readonly number[];
}

export interface Session {
  run(feeds: Record<string, Tensor>): Promise<Record<string, Tensor>>;
  release(): Promise<void>;
}

export interface Ort {
  Tensor: new (type: never, data: never, dims: readonly number[]) => Tensor;
  InferenceSession: {
    create(model: never, options?: never): Promise<Session>;
  };
}
