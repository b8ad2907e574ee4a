import CoreImage

/// What is kept of a frame.
enum Resize {
    /// The centre, cut out and scaled.
    case crop
    /// The centre of the scaled frame, rounded as torchvision rounds.
    case shortSide
    /// The whole frame, with padding beside it.
    case letterbox
    /// The whole frame, out of proportion.
    case stretch
}

/// How a frame of any size becomes the model's input; `declared` is what the models were calibrated and judged with.
struct Preparation {
    let resize: Resize
    /// The share of the frame's side that `crop` and `shortSide` keep.
    var cropRatio: CGFloat = 1
    /// RGB beside a letterboxed frame, 0 to 255.
    var padding: (red: CGFloat, green: CGFloat, blue: CGFloat) = (0, 0, 0)

    var color: CIColor { CIColor(red: padding.red / 255, green: padding.green / 255, blue: padding.blue / 255) }
}

/// Where the scaled frame lies in the model's input, in whole pixels from the top left.
///
/// What sticks out of the input is cut off; what stays empty is padding.
struct FrameGeometry {
    let scaleX: CGFloat
    let scaleY: CGFloat
    let left: CGFloat
    let top: CGFloat
    let width: CGFloat
    let height: CGFloat

    init(frame: CGSize, input: CGSize, _ preparation: Preparation) {
        let ratio = preparation.cropRatio
        switch preparation.resize {
        case .crop:
            scaleX = max(input.width / frame.width, input.height / frame.height) / ratio
            scaleY = scaleX
            width = (frame.width * scaleX).rounded()
            height = (frame.height * scaleY).rounded()
            left = -((width - input.width) / 2).rounded(.down)
            top = input.height - height + ((height - input.height) / 2).rounded(.down)
            return
        case .shortSide:
            if frame.height * input.width >= frame.width * input.height {
                width = (input.width / ratio).rounded(.toNearestOrEven)
                height = (width * frame.height / frame.width).rounded(.down)
            } else {
                height = (input.height / ratio).rounded(.toNearestOrEven)
                width = (height * frame.width / frame.height).rounded(.down)
            }
            left = -((width - input.width) / 2).rounded(.toNearestOrEven)
            top = -((height - input.height) / 2).rounded(.toNearestOrEven)
        case .letterbox:
            let scale = min(input.width / frame.width, input.height / frame.height)
            width = max(1, (frame.width * scale).rounded(.toNearestOrEven))
            height = max(1, (frame.height * scale).rounded(.toNearestOrEven))
            left = ((input.width - width) / 2).rounded(.down)
            top = ((input.height - height) / 2).rounded(.down)
        case .stretch:
            (left, top, width, height) = (0, 0, input.width, input.height)
        }
        scaleX = width / frame.width
        scaleY = height / frame.height
    }

    /// Whether the scaled frame is the input, with nothing cut off and nothing added.
    func isWhole(_ input: CGSize) -> Bool { left == 0 && top == 0 && CGSize(width: width, height: height) == input }
}
