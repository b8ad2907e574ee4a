import CoreGraphics
import Foundation

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
    var interpolation = Interpolation.halved
    /// RGB beside a letterboxed frame, 0 to 255.
    var padding: (red: Int, green: Int, blue: Int) = (0, 0, 0)
}

/// Where a frame goes in the model's input, in whole pixels from the top left: the box `cut` of the frame is scaled to
/// the size of `laid` and laid into the input there.
///
/// What sticks out of the input is cut off; what stays empty is padding.
struct FrameGeometry: Equatable {
    let cut: CGRect
    let laid: CGRect

    init(cut: CGRect, laid: CGRect) { (self.cut, self.laid) = (cut, laid) }

    init(frame: CGSize, input: CGSize, _ preparation: Preparation) {
        let (ratio, whole) = (preparation.cropRatio, CGRect(origin: .zero, size: frame))
        switch preparation.resize {
        case .crop:
            let scale = min(frame.width / input.width, frame.height / input.height) * ratio
            let box = Self.rounded(input.width * scale, input.height * scale)
            (cut, laid) = (Self.centred(box, in: frame), CGRect(origin: .zero, size: input))
        case .shortSide:
            var size = CGSize.zero
            if frame.height * input.width >= frame.width * input.height {
                size.width = (input.width / ratio).rounded(.toNearestOrEven)
                size.height = (size.width * frame.height / frame.width).rounded(.down)
            } else {
                size.height = (input.height / ratio).rounded(.toNearestOrEven)
                size.width = (size.height * frame.width / frame.height).rounded(.down)
            }
            let left = -((size.width - input.width) / 2).rounded(.toNearestOrEven)
            let top = -((size.height - input.height) / 2).rounded(.toNearestOrEven)
            (cut, laid) = (whole, CGRect(origin: CGPoint(x: left, y: top), size: size))
        case .letterbox:
            let scale = min(input.width / frame.width, input.height / frame.height)
            (cut, laid) = (whole, Self.centred(Self.rounded(frame.width * scale, frame.height * scale), in: input))
        case .stretch:
            (cut, laid) = (whole, CGRect(origin: .zero, size: input))
        }
    }

    /// Halves go to the even neighbour; at least a pixel is left.
    private static func rounded(_ width: CGFloat, _ height: CGFloat) -> CGSize {
        CGSize(width: max(1, width.rounded(.toNearestOrEven)), height: max(1, height.rounded(.toNearestOrEven)))
    }

    private static func centred(_ box: CGSize, in size: CGSize) -> CGRect {
        let left = ((size.width - box.width) / 2).rounded(.down)
        return CGRect(origin: CGPoint(x: left, y: ((size.height - box.height) / 2).rounded(.down)), size: box)
    }
}
