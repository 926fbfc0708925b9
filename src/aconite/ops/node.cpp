// A kernel's bound call under autograd without Python: the same as bound.py does, in a tenth of the time.
//
// Compiled on the user's machine against the torch that is installed there (node.py), never shipped as a binary. It knows no
// formula: `Program` is a call as data. Whatever is not the plain case is left to Python, here as there: `run` answers None
// and does nothing, a gradient goes to `Bound.gradient`.
#include <Python.h>

#include <ATen/ATen.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/forward_grad.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace {

using at::Tensor;
using torch::autograd::Node;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// ---- Python objects: node.py alone makes what comes in, so nothing asks for its types -----------------------------------

struct Owned {
  PyObject* object = nullptr;
  explicit Owned(PyObject* given) : object(given) {}
  ~Owned() { Py_XDECREF(object); }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  PyObject* release() { return std::exchange(object, nullptr); }
};

// The same where the last to let go may be a thread without the interpreter's lock.
struct Lasting {
  PyObject* object;
  explicit Lasting(PyObject* borrowed) : object(Py_NewRef(borrowed)) {}
  Lasting(const Lasting&) = delete;
  Lasting& operator=(const Lasting&) = delete;
  ~Lasting() {
    if (!Py_IsInitialized()) return;
    pybind11::gil_scoped_acquire gil;
    Py_DECREF(object);
  }
};

[[noreturn]] void raise_python() {
  python_error error;
  error.persist();
  throw error;
}

int64_t integer(PyObject* object) {
  long long value = PyLong_AsLongLong(object);
  if (value == -1 && PyErr_Occurred()) raise_python();
  return value;
}

void* address(PyObject* object) { return PyBytes_Check(object) ? PyBytes_AS_STRING(object) : PyLong_AsVoidPtr(object); }

PyObject* item(PyObject* tuple, Py_ssize_t i) { return PyTuple_GET_ITEM(tuple, i); }

template <class F>
void each(PyObject* tuple, F function) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); ++i) function(item(tuple, i));
}

std::vector<int64_t> integers(PyObject* tuple) {
  std::vector<int64_t> found;
  each(tuple, [&](PyObject* o) { found.push_back(integer(o)); });
  return found;
}

variable_list tensors(PyObject* tuple) {
  variable_list found;
  each(tuple, [&](PyObject* o) { found.push_back(THPVariable_Unpack(o)); });
  return found;
}

// ---- The call as data: kernels/_recipe.py says what each part means ------------------------------------------------------

enum Slot : int64_t { kConstant, kX, kY, kGrad, kDx, kGradients, kSaved };  // kSaved + i: the i-th tensor beside y

struct Argument {
  int64_t slot;
  int64_t offset;  // in bytes
  void* constant;
};

constexpr size_t kMost = 12;

struct Function {
  void* address;
  std::vector<Argument> arguments;

  static Function of(PyObject* address_, PyObject* arguments_) {
    Function found{::address(address_), {}};
    each(arguments_, [&](PyObject* o) {
      if (PyTuple_Check(o))
        found.arguments.push_back({integer(item(o, 0)), integer(item(o, 1)), nullptr});
      else
        found.arguments.push_back({kConstant, 0, ::address(o)});
    });
    TORCH_CHECK(found.arguments.size() <= kMost, "a kernel's call has at most ", kMost, " arguments");
    return found;
  }

  void operator()(void* const* slots) const {
    void* given[kMost];
    for (size_t i = 0; i < arguments.size(); ++i) {
      const Argument& a = arguments[i];
      given[i] = a.slot == kConstant ? a.constant : slots[a.slot] ? (char*)slots[a.slot] + a.offset : nullptr;
    }
    int32_t status = call(given, std::make_index_sequence<kMost + 1>{});
    TORCH_CHECK_WITH(OutOfMemoryError, status != 2, "the native kernels could not allocate their scratch memory");
    TORCH_CHECK(status == 0, "the native kernels refused the call (status ", status, ")");
  }

 private:
  template <size_t... COUNTS>
  int32_t call(void** given, std::index_sequence<COUNTS...>) const {
    int32_t status = -1;
    (void)((arguments.size() == COUNTS && (status = with(given, std::make_index_sequence<COUNTS>{}), true)) || ...);
    return status;
  }
  template <size_t>
  using Pointer = void*;
  template <size_t... I>
  int32_t with(void** given, std::index_sequence<I...>) const {
    return ((int32_t(*)(Pointer<I>...))address)(given[I]...);
  }
};

struct Saved {
  std::vector<int64_t> sizes;
  at::ScalarType dtype;
};

// What a step leaves in a norm's buffers: the record begins with the pointer to what forward saved.
struct Update {
  int32_t (*function)(const void* record);
  std::vector<char> rest;  // behind that pointer
  int64_t saved, offset;   // which of them, and from which byte on
};

// Where a tensor lay and how, when the call was bound to it.
struct Place {
  void* address;
  std::vector<int64_t> sizes, strides;
  at::ScalarType dtype;

  static Place of(const Tensor& t) { return {t.data_ptr(), t.sizes().vec(), t.strides().vec(), t.scalar_type()}; }
  bool holds(const Tensor& t) const;
};

struct Gradient {
  std::vector<int64_t> sizes;
  int64_t start;  // in the vector of all gradients, in elements
};

struct Program {
  Function forward, backward;
  std::vector<Saved> beside;
  std::vector<Gradient> gradients;
  int64_t gradients_count;
  at::ScalarType gradients_dtype;
  bool writes_dx;             // even where nobody asks for it
  Place x;                    // but for its address
  std::vector<Place> places;  // of the tensors that have a gradient, then of what is read
  std::vector<Update> updates;
  // (tensors with a gradient, tensors read, updates, gradient, what has to stay alive): as Python's objects, so that its
  // garbage collector sees a circle that leads through a parameter.
  Lasting parts;
};

// ---- The plain case ------------------------------------------------------------------------------------------------------

// Memory that holds the values as they are: not lazily negated, sparse, batched, wrapped, on another device. An inference
// tensor is plain, but autograd has no hold on it.
uint64_t g_plain, g_inference;

bool plain(const Tensor& t) {
  uint64_t keys = t.key_set().raw_repr();
  return keys == g_plain || keys == g_inference;
}

bool Place::holds(const Tensor& t) const {
  return plain(t) && t.data_ptr() == address && t.scalar_type() == dtype && t.sizes() == at::IntArrayRef(sizes) &&
         t.strides() == at::IntArrayRef(strides);
}

// Nothing watches or transforms what is computed here: no mode, no functorch transform, no forward-mode AD, no tracer.
bool unwatched() {
  constexpr auto transform = c10::DispatchKey::FuncTorchDynamicLayerFrontMode;
  return !c10::impl::TorchDispatchModeTLS::any_modes_set() && !c10::impl::tls_is_dispatch_key_included(transform) &&
         !torch::autograd::ForwardADLevel::try_get_by_idx(0) && !torch::jit::tracer::isTracing();
}

bool like_x(const Tensor& t, const Program& p) {
  return plain(t) && t.scalar_type() == p.x.dtype && t.sizes() == at::IntArrayRef(p.x.sizes) &&
         t.strides() == at::IntArrayRef(p.x.strides);
}

// ---- The gradient --------------------------------------------------------------------------------------------------------

// Pieces of one vector that nobody else sees whole, so that autograd need not know of views.
Tensor piece(const Tensor& whole, const Gradient& g) {
  auto made = c10::make_intrusive<c10::TensorImpl>(c10::Storage(whole.storage()), whole.key_set(), whole.dtype());
  made->set_storage_offset(g.start);
  made->set_sizes_contiguous(g.sizes);
  return Tensor(std::move(made));
}

struct AconiteBackward : public Node {
  std::shared_ptr<const Program> program;
  std::vector<SavedVariable> held;  // x, then the program's tensors, what is read, and what forward saved

  std::string name() const override { return "AconiteBackward"; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (SavedVariable& v : held) v.reset_data();
  }

  variable_list apply(variable_list&& grads) override {
    std::lock_guard<std::mutex> lock(mutex_);
    const Program& p = *program;
    if (!grads[0].defined()) return variable_list(1 + p.gradients.size());
    variable_list found;
    found.reserve(held.size());
    for (const SavedVariable& v : held) found.push_back(v.unpack());
    // The values have not changed (autograd sees to that), but a saved-tensor hook may have moved them.
    bool fits = plain(grads[0]) && grads[0].sizes() == at::IntArrayRef(p.x.sizes);
    if (at::GradMode::is_enabled() || !fits || !unwatched() || !stays(found)) return through_python(grads[0], found);

    at::AutoDispatchBelowADInplaceOrView below;
    const Tensor& x = found[0];
    Tensor grad = grads[0];
    if (grad.scalar_type() != p.x.dtype || grad.strides() != x.strides()) grad = at::empty_like(x).copy_(grad);
    Tensor dx, gradients;
    if (p.writes_dx || task_should_compute_output(0)) dx = at::empty_like(x);
    gradients = at::empty({p.gradients_count}, at::dtype(p.gradients_dtype).device(at::kCPU));
    std::vector<void*> slots(kSaved + p.beside.size());
    slots[kX] = x.data_ptr();
    slots[kGrad] = grad.data_ptr();
    slots[kDx] = dx.defined() ? dx.data_ptr() : nullptr;
    slots[kGradients] = gradients.data_ptr();
    for (size_t i = 0; i < p.beside.size(); ++i) slots[kSaved + i] = found[found.size() - p.beside.size() + i].data_ptr();
    p.backward(slots.data());
    variable_list result{dx};
    result.reserve(1 + p.gradients.size());
    for (const Gradient& g : p.gradients) result.push_back(piece(gradients, g));
    return result;
  }

 private:
  bool stays(const variable_list& found) const {
    const Program& p = *program;
    if (found.size() != held.size() || !like_x(found[0], p)) return false;
    for (size_t i = 0; i < p.places.size(); ++i)
      if (!p.places[i].holds(found[1 + i])) return false;
    for (size_t i = 0; i < p.beside.size(); ++i) {
      const Tensor& t = found[1 + p.places.size() + i];
      const Saved& as = p.beside[i];
      if (!plain(t) || t.scalar_type() != as.dtype || t.sizes() != at::IntArrayRef(as.sizes) || !t.is_contiguous()) return false;
    }
    return true;
  }

  variable_list through_python(const Tensor& grad, const variable_list& found) {
    pybind11::gil_scoped_acquire gil;
    size_t count = 1 + program->gradients.size();
    Owned given(THPVariable_Wrap(grad)), kept(PyTuple_New(found.size())), needs(PyTuple_New(count));
    for (size_t i = 0; i < found.size(); ++i) PyTuple_SET_ITEM(kept.object, i, THPVariable_Wrap(found[i]));
    for (size_t i = 0; i < count; ++i) PyTuple_SET_ITEM(needs.object, i, PyBool_FromLong(task_should_compute_output(i)));
    Owned answer(PyObject_CallFunctionObjArgs(item(program->parts.object, 3), given.object, kept.object, needs.object, nullptr));
    if (!answer.object) raise_python();
    Owned sequence(PySequence_Tuple(answer.object));
    if (!sequence.object) raise_python();
    variable_list result;
    each(sequence.object, [&](PyObject* o) { result.push_back(o == Py_None ? Tensor() : THPVariable_Unpack(o)); });
    return result;
  }
};

// Edge holds a shared_ptr in some releases of torch, an intrusive_ptr in others.
using NodePointer = decltype(torch::autograd::Edge::function);

template <class POINTER = NodePointer>
std::pair<POINTER, AconiteBackward*> new_node() {
  if constexpr (std::is_same_v<POINTER, std::shared_ptr<Node>>) {
    auto* node = new AconiteBackward();
    return {POINTER(node, [](auto* last) { deleteNode(last); }), node};
  } else {
    auto node = c10::make_intrusive<AconiteBackward>();
    auto* bare = node.get();
    return {POINTER(std::move(node)), bare};
  }
}

// ---- y -------------------------------------------------------------------------------------------------------------------

// The tensors behind x, as Python holds them now.
struct Present {
  variable_list tensors, read, buffers;
};

Tensor forward(const std::shared_ptr<const Program>& program, const Tensor& x, const Present& present, bool recorded) {
  const Program& p = *program;
  std::pair<NodePointer, AconiteBackward*> node;
  if (recorded) {
    node = new_node();
    node.second->program = program;
    torch::autograd::edge_list edges{torch::autograd::impl::gradient_edge(x)};
    edges.reserve(1 + present.tensors.size());
    if (!x.requires_grad()) edges[0] = {};
    for (const Tensor& t : present.tensors)
      edges.push_back(t.requires_grad() ? torch::autograd::impl::gradient_edge(t) : torch::autograd::Edge());
    node.second->set_next_edges(std::move(edges));
  }
  Tensor y;
  variable_list beside;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    y = at::empty_like(x);
    std::vector<void*> slots(kSaved + p.beside.size());
    slots[kX] = x.data_ptr();
    slots[kY] = y.data_ptr();
    for (const Saved& s : p.beside) {
      beside.push_back(at::empty(s.sizes, at::dtype(s.dtype).device(at::kCPU)));
      slots[kSaved + beside.size() - 1] = beside.back().data_ptr();
    }
    p.forward(slots.data());
  }
  for (const Update& u : p.updates) {
    std::vector<char> record(sizeof(void*) + u.rest.size());
    const char* saved = (const char*)beside[u.saved].data_ptr() + u.offset;
    memcpy(record.data(), &saved, sizeof saved);
    memcpy(record.data() + sizeof saved, u.rest.data(), u.rest.size());
    int32_t status = u.function(record.data());
    TORCH_CHECK(status == 0, "the native kernels refused the running statistics (status ", status, ")");
  }
  for (const Tensor& b : present.buffers) b.unsafeGetTensorImpl()->bump_version();
  if (recorded) {
    std::vector<SavedVariable>& held = node.second->held;
    held.reserve(1 + p.places.size() + beside.size());
    held.emplace_back(x, false);
    for (const variable_list* list : {&present.tensors, &present.read, (const variable_list*)&beside})
      for (const Tensor& t : *list) held.emplace_back(t, false);
    torch::autograd::set_history(y, node.first);
  }
  return y;
}

// ---- The Python type -----------------------------------------------------------------------------------------------------

// Whether everything that the call depends on is what it was: kept_calls.py's Question, asked in C.
struct Call {
  PyObject_HEAD
  PyObject* question;
  std::shared_ptr<const Program>* program;
  std::vector<Place>* places;  // of the question's tensors
};

constexpr Py_ssize_t kTensors = 6;  // where they begin in a question

bool same(PyObject* dictionary, PyObject* name, PyObject* value) {
  return PyDict_GetItemWithError(dictionary, name) == value;  // borrowed; a missing name is another value
}

// (partner, size, own, theirs, tables, hooks, *tensors)
bool holds(PyObject* question, const std::vector<Place>& places, PyObject* attributes, PyObject* partner) {
  if (partner != item(question, 0) || PyDict_GET_SIZE(attributes) != PyLong_AsSsize_t(item(question, 1))) return false;
  PyObject *own = item(question, 2), *theirs = item(question, 3), *tables = item(question, 4), *hooks = item(question, 5);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(own); i += 2)
    if (!same(attributes, item(own, i), item(own, i + 1))) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(theirs); ++i) {
    PyObject *entry = item(theirs, i), *dictionary = item(entry, 0);
    if (PyDict_GET_SIZE(dictionary) != PyLong_AsSsize_t(item(entry, 1))) return false;
    for (Py_ssize_t k = 2; k < PyTuple_GET_SIZE(entry); k += 2)
      if (!same(dictionary, item(entry, k), item(entry, k + 1))) return false;
  }
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tables); ++i) {
    PyObject *entry = item(tables, i), *name, *value;
    Py_ssize_t at = 0, k = 1;
    while (PyDict_Next(item(entry, 0), &at, &name, &value))
      if (k >= PyTuple_GET_SIZE(entry) || item(entry, k++) != value) return false;
    if (k != PyTuple_GET_SIZE(entry)) return false;
  }
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(hooks); ++i)
    if (PyDict_GET_SIZE(item(hooks, i))) return false;
  for (Py_ssize_t i = kTensors; i < PyTuple_GET_SIZE(question); ++i)
    if (!places[i - kTensors].holds(THPVariable_Unpack(item(question, i)))) return false;
  return true;
}

// run(x, attributes, partner) -> y, or None and nothing done
PyObject* run(PyObject* self, PyObject* const* given, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  TORCH_CHECK_TYPE(count == 3 && PyDict_CheckExact(given[1]), "run(x, attributes, partner)");
  const auto* call = (const Call*)self;
  const Program& p = **call->program;
  if (!THPVariable_CheckExact(given[0])) Py_RETURN_NONE;
  const Tensor& x = THPVariable_Unpack(given[0]);
  if (!like_x(x, p) || !unwatched() || !holds(call->question, *call->places, given[1], given[2])) Py_RETURN_NONE;
  Present present{tensors(item(p.parts.object, 0)), tensors(item(p.parts.object, 1)), {}};
  each(item(p.parts.object, 2), [&](PyObject* o) {
    for (const Tensor& t : tensors(item(o, 4))) present.buffers.push_back(t);
  });
  bool recorded = false;
  if (at::GradMode::is_enabled()) {
    recorded = x.requires_grad();
    for (const Tensor& t : present.tensors) recorded = recorded || t.requires_grad();
    if (recorded && x.is_inference()) Py_RETURN_NONE;
  }
  std::shared_ptr<const Program> program = *call->program;
  Tensor y;
  {
    pybind11::gil_scoped_release others;
    y = forward(program, x, present, recorded);
  }
  return THPVariable_Wrap(std::move(y));
  END_HANDLE_TH_ERRORS
}

at::ScalarType dtype_of(PyObject* tensor) { return THPVariable_Unpack(tensor).scalar_type(); }

std::shared_ptr<const Program> program_of(PyObject* recipe, PyObject* x, PyObject* parts) {
  // recipe: (forward, arguments, backward, arguments, beside, gradients, length, tensor of their dtype, writes_dx)
  std::shared_ptr<Program> p(new Program{
      Function::of(item(recipe, 0), item(recipe, 1)), Function::of(item(recipe, 2), item(recipe, 3)), {}, {},
      integer(item(recipe, 6)), dtype_of(item(recipe, 7)), item(recipe, 8) == Py_True, Place::of(THPVariable_Unpack(x)), {}, {},
      Lasting(parts)});
  each(item(recipe, 4), [&](PyObject* o) { p->beside.push_back({integers(item(o, 0)), dtype_of(item(o, 1))}); });
  each(item(recipe, 5), [&](PyObject* o) { p->gradients.push_back({integers(item(o, 0)), integer(item(o, 1))}); });
  for (int k = 0; k < 2; ++k)
    for (const Tensor& t : tensors(item(parts, k))) p->places.push_back(Place::of(t));
  each(item(parts, 2), [&](PyObject* o) {
    const char* rest = PyBytes_AS_STRING(item(o, 1));
    p->updates.push_back({(int32_t(*)(const void*))address(item(o, 0)), {rest, rest + PyBytes_GET_SIZE(item(o, 1))},
                          integer(item(o, 2)), integer(item(o, 3))});
  });
  TORCH_CHECK((size_t)PyTuple_GET_SIZE(item(parts, 0)) == p->gradients.size(), "a gradient for every tensor");
  return p;
}

// Call(question, recipe, x, parts)
PyObject* make(PyTypeObject* type, PyObject* arguments, PyObject*) {
  HANDLE_TH_ERRORS
  PyObject *question, *recipe, *x, *parts;
  if (!PyArg_ParseTuple(arguments, "O!O!OO!", &PyTuple_Type, &question, &PyTuple_Type, &recipe, &x, &PyTuple_Type, &parts))
    return nullptr;
  auto program = program_of(recipe, x, parts);
  std::vector<Place> places;
  for (Py_ssize_t i = kTensors; i < PyTuple_GET_SIZE(question); ++i)
    places.push_back(Place::of(THPVariable_Unpack(item(question, i))));
  auto* call = (Call*)type->tp_alloc(type, 0);
  if (!call) return nullptr;
  Py_INCREF(question);
  call->question = question;
  call->program = new std::shared_ptr<const Program>(std::move(program));
  call->places = new std::vector<Place>(std::move(places));
  return (PyObject*)call;
  END_HANDLE_TH_ERRORS
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  const auto* call = (const Call*)self;
  Py_VISIT(call->question);
  // Where a graph holds the program as well, its objects are in use for as long.
  if (call->program && call->program->use_count() == 1) Py_VISIT((*call->program)->parts.object);
  Py_VISIT(Py_TYPE(self));
  return 0;
}

void destroy(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_CLEAR(((Call*)self)->question);
  delete ((Call*)self)->program;
  delete ((Call*)self)->places;
  type->tp_free(self);
  Py_DECREF(type);
}

PyMethodDef g_methods[] = {{"run", (PyCFunction)(void (*)(void))run, METH_FASTCALL, nullptr}, {nullptr, nullptr, 0, nullptr}};
PyType_Slot g_slots[] = {{Py_tp_new, (void*)make},
                         {Py_tp_methods, g_methods},
                         {Py_tp_traverse, (void*)traverse},
                         {Py_tp_dealloc, (void*)destroy},
                         {0, nullptr}};
PyType_Spec g_spec = {"aconite_node.Call", sizeof(Call), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, g_slots};
PyModuleDef g_module = {PyModuleDef_HEAD_INIT, "aconite_node", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit_aconite_node() {
  {
    c10::InferenceMode off(false);
    g_plain = at::empty({0}).key_set().raw_repr();
    c10::InferenceMode on(true);
    g_inference = at::empty({0}).key_set().raw_repr();
  }
  Owned module(PyModule_Create(&g_module)), type(PyType_FromSpec(&g_spec));
  if (!module.object || !type.object || PyModule_AddObjectRef(module.object, "Call", type.object) < 0) return nullptr;
  return module.release();
}
